"""Checks that layers point one way and that system calls stay behind their seams.

The rows are the ROW_ lines of the Makefile, the one place that states them."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
text = (root / "Makefile").read_text()
variables = dict(re.findall(r"^(\w+)[ \t]*:=[ \t]*(.*)$", text, re.M))


def expand(value):
    while (m := re.search(r"\$\((\w+)\)", value)):
        value = value.replace(m.group(0), variables.get(m.group(1), ""))
    return value.split()


rows = {k[4:]: set(expand(v)) for k, v in variables.items() if k.startswith("ROW_")}
# What may be called where; everywhere else it goes through base's seams.
calls = {
    "clock": (r"\b(clock_gettime|gettimeofday|nanosleep|usleep)\s*\(", {"base"}),
    "random": (r"\b(random|rand|srand|getrandom|randombytes_buf)\s*\(", {"base"}),
    "file": (r"\b(fopen|open|openat|creat|rename|unlink|mkdir|rmdir|opendir|fsync|fdatasync)\s*\(", {"base", "launch"}),
    "socket": (r"\b(socket|connect|bind|listen|accept4?|recv|sendmsg)\s*\(", {"base"}),
}
comment = re.compile(r"/\*.*?\*/|\"(?:\\.|[^\"\\])*\"", re.S)
bad = 0
for path in sorted((root / "src").glob("*/*.[ch]")):
    folder, source = path.parent.name, path.read_text()
    if folder not in rows:
        print(f"{path.relative_to(root)}: folder '{folder}' has no ROW_ line in the Makefile")
        bad += 1
        continue
    for n, line in enumerate(source.splitlines(), 1):
        m = re.match(r'\s*#include "(\w+)/', line)
        if m and m.group(1) in rows and m.group(1) != folder and m.group(1) not in rows[folder]:
            print(f"{path.relative_to(root)}:{n}: {folder} may not include {m.group(1)}")
            bad += 1
    plain = comment.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), source)
    for name, (pattern, allowed) in calls.items():
        for m in re.finditer(r"(?<![\w.>])" + pattern, plain) if folder not in allowed else ():
            n = plain.count("\n", 0, m.start()) + 1
            print(f"{path.relative_to(root)}:{n}: {m.group(1)}() belongs behind the {name} seam of base")
            bad += 1
print(f"layers: {len(rows)} folders, {bad} violations")
sys.exit(bad != 0)
