"""The interpreter of a spare (spare.h): imports modules, waits for a run, becomes `python SCRIPT.py ARGS`.

Arguments: the descriptor that it is spoken to over, the time of its start in microseconds, the modules. Messages are a
u32 length in the machine's order and that many bytes. It says `ready` or what went wrong; is sent the working
directory, the number of arguments, the arguments and the variables of its run, with a NUL between them; says `taken`,
and is the program from then on, or why it cannot be, and ends.

It imports nothing but what it is told to, so that the script finds sys.modules as it would be.
"""
import os
import sys


class Refused(Exception):
    pass


def say(fd, text):
    data = text.encode("ascii", "backslashreplace")[:2000]
    data = len(data).to_bytes(4, sys.byteorder) + data
    while data:
        data = data[os.write(fd, data):]


def read_all(fd, n):
    data = b""
    while len(data) < n:
        piece = os.read(fd, n - len(data))
        if not piece:
            os._exit(0)  # nobody is left to wait for
        data += piece
    return data


def hear(fd):
    return read_all(fd, int.from_bytes(read_all(fd, 4), sys.byteorder))


# ---- what the imports came from: when that has changed, they are not what an import would give now

def stamp(path):
    try:
        st = os.stat(path)
    except (OSError, ValueError):
        return None
    return st.st_mtime_ns, st.st_size, st.st_ino


def sources():
    """Interpreter and its environment, folders that modules are looked for in, files of modules."""
    yield os.path.realpath(sys.executable)
    yield os.path.join(sys.prefix, "pyvenv.cfg")
    yield from sys.path
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            yield path


def check_unchanged(stamps):
    for path, was in stamps.items():
        if stamp(path) != was:
            raise Refused(f"{path} has changed since the spare was started")


def check_own_modules(folder, names):
    """A cold start would have imported these instead."""
    for entry in os.listdir(folder):
        name = entry.split(".")[0]
        if name in names and (entry != name or os.path.isdir(os.path.join(folder, entry))):
            raise Refused(f"the program's folder has a module '{name}' of its own")


# ---- becoming the program

def become(cwd, argv, env):
    """The state of `python SCRIPT.py ARGS` before its first line; __main__'s dictionary and the script."""
    for name in [n for n in os.environ if n.startswith("OVERTAKE_") and n != "OVERTAKE_RUN_MARK"]:
        del os.environ[name]
    for entry in env:
        name, _, value = entry.partition("=")
        os.environ[name] = value
    if "PWD" in os.environ:
        os.environ["PWD"] = cwd
    os.chdir(cwd)
    path = os.path.join(cwd, argv[0]) if sys.version_info >= (3, 9) else argv[0]
    folder = os.path.dirname(os.path.realpath(argv[0]))
    with open(argv[0], "rb") as f:
        source = f.read()
    sys.argv[:] = argv
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[sys.orig_argv.index("-c"):] = argv
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, folder)
    # It remembers where the process was when it was imported, for children that are spawned.
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = cwd
    main = sys.modules["__main__"].__dict__
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    fresh = {"__name__": "__main__", "__doc__": None, "__package__": None, "__loader__": loader, "__spec__": None,
             "__builtins__": main["__builtins__"], "__file__": path, "__cached__": None}
    if "__annotations__" in main:
        fresh["__annotations__"] = {}
    main.clear()
    main.update(fresh)
    return main, source, path


def report(error, traceback):
    """What the interpreter does with an exception that nobody caught."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, traceback)
    except SystemExit:
        raise
    except BaseException as e:
        e.__traceback__ = e.__traceback__ and e.__traceback__.tb_next
        print("Error in sys.excepthook:", file=sys.stderr)
        sys.__excepthook__(type(e), e, e.__traceback__)
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, traceback)
    if isinstance(error, KeyboardInterrupt):
        die_of_interrupt()
    sys.exit(1)


def die_of_interrupt():
    import atexit
    import signal
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def run(main, source, path):
    try:
        exec(compile(source, path, "exec", 0, True), main)
        return
    except SystemExit:
        raise
    except BaseException as e:
        error = e
    # Without this frame, so that it reads as it would.
    traceback = error.__traceback__.tb_next
    error.__traceback__ = traceback
    report(error, traceback)


def wait(fd, started_us, modules):
    os.set_blocking(fd, True)
    os.set_inheritable(fd, False)
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the working directory
    before = set(sys.modules)
    try:
        for name in modules:
            __import__(name)
        stamps = {path: stamp(path) for path in sources()}
        for path, was in stamps.items():
            if was is not None and was[0] >= started_us * 1000 and os.path.isfile(path):
                raise Refused(f"{path} changed while the spare was started")
    except BaseException as e:
        say(fd, str(e) if isinstance(e, Refused) else f"import {name}: {type(e).__name__}: {e}")
        os._exit(1)
    names = {name.split(".")[0] for name in set(sys.modules) - before}
    say(fd, "ready")
    cwd, n, *rest = [os.fsdecode(word) for word in hear(fd).split(b"\0")]
    argv, env = rest[:int(n)], rest[int(n):]
    try:
        check_unchanged(stamps)
        check_own_modules(os.path.dirname(os.path.realpath(os.path.join(cwd, argv[0]))), names)
        program = become(cwd, argv, env)
    except BaseException as e:
        say(fd, str(e) if isinstance(e, Refused) else f"{type(e).__name__}: {e}")
        os._exit(1)
    say(fd, "taken")
    os.close(fd)
    return program


run(*wait(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
