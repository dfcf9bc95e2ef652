"""Every scene of page_scenes.py, wide and light, narrow and dark: nothing sticks out, text can be read, each control
can be reached by keys, is seen when it has the focus and has a name, and no state is told by colour alone.
`make page-looks` takes the pictures for a person to look at."""

import pytest

from page_scenes import SCENES, show

# Relative luminance and contrast as WCAG 2.2 defines them (1.4.3): 4.5, or 3 for large text. Controls that are off are
# exempt there. A text's background is what its ancestors paint, one over the other; in the graph the rectangle of its node.
READABLE = """(() => {
    const parse = (s) => { const n = s.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
    const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
    const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const behind = (e) => {
        const layers = [];
        const box = e.closest('g.node')?.querySelector('rect');
        if (box) layers.push(parse(getComputedStyle(box).fill));
        for (let p = e; p; p = p.parentElement) {
            const c = parse(getComputedStyle(p).backgroundColor);
            if (c[3] > 0) layers.push(c);
            if (p.localName === 'dialog') break;
        }
        return layers.reverse().reduce((b, c) => over(c, b), [255, 255, 255, 1]);
    };
    const bad = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const t = walk.currentNode, e = t.parentElement;
        if (!t.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest('.hidden, :disabled, [aria-disabled=true], script, style, noscript')) continue;
        const s = getComputedStyle(e), svg = e instanceof SVGElement;
        const back = behind(e), fore = over(parse(svg ? s.fill : s.color), back);
        const px = parseFloat(s.fontSize), large = px >= 24 || (px >= 18.66 && Number(s.fontWeight) >= 700);
        const r = ratio(fore, back);
        if (r < (large ? 3 : 4.5)) bad.push(`${r.toFixed(2)} "${t.data.trim().slice(0, 40)}" ${s.color} on ${back}`);
    }
    // What charts draw: their names in each line's colour, axes, the lines of objectives and alarms.
    const css = (n) => { const p = document.body.appendChild(document.createElement('i')); p.style.color = `var(${n})`;
        const c = parse(getComputedStyle(p).color); p.remove(); return c; };
    for (const n of ['--c1', '--c2', '--c3', '--c4', '--c5', '--dim', '--bad', '--waits', '--focus']) {
        const r = ratio(css(n), css('--card'));
        if (r < 4.5) bad.push(`${r.toFixed(2)} ${n} on --card`);
    }
    return bad;
})()"""

STICKS_OUT = """(() => {
    const out = document.documentElement.scrollWidth > innerWidth ? [`the page is ${document.documentElement.scrollWidth} wide`] : [];
    // Text that a box cuts off without a way to scroll to it, and without an ellipsis.
    for (const e of document.querySelectorAll('main *, header *, dialog *')) {
        const s = getComputedStyle(e);
        if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && s.overflowX === 'hidden' && s.textOverflow !== 'ellipsis'
            && !e.closest('.hidden, svg, .u-wrap, .scroll ul')) out.push(e.outerHTML.slice(0, 90));
    }
    return out;
})()"""

# Each thing that has a colour of a state has a sign or a word beside it.
COLOUR_ALONE = """[...document.querySelectorAll('.badge, .event, .troubles li, .error, .away, g.node')].filter((e) => {
        const t = (e.textContent ?? '').trim(), sign = /[✓▲◆●○·–]/.test(t);
        return !sign || t.replace(/[✓▲◆●○·–]/g, '').trim().length < 2;
    }).map((e) => e.outerHTML.slice(0, 90))"""

REACH = """[...(document.querySelector('dialog[open]') ?? document).querySelectorAll(
        'a[href], button, select, input, textarea, [tabindex="0"]')]
    .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility())"""

FOCUSED = """(() => { const e = document.activeElement; if (!e || e === document.body) return null;
    window.__reached.add(e); const s = getComputedStyle(e);
    return s.outlineStyle === 'solid' && parseFloat(s.outlineWidth) >= 2 ? null : e.outerHTML.slice(0, 90); })()"""

NAMED_ROLES = {"button", "link", "textbox", "searchbox", "combobox", "dialog", "img", "region", "group", "navigation"}


def check(p):
    assert p.js(STICKS_OUT) == []
    assert p.js(READABLE) == []
    assert p.js(COLOUR_ALONE) == []


def test_a_change_of_many_inputs_is_one_line_that_unfolds(still, page):
    show(page, still.control, "app-alarm-open")
    drift = "[...document.querySelectorAll('.event')].filter(e => e.dataset.type.startsWith('drift.')).map(e => e.innerText)"
    [line] = page.js(drift)
    assert "29 by now" in line and "pixel_3_4" in line
    page.wait_text("29 inputs by now; also pixel_6_0", ".details")
    assert "14 inputs by now" in page.text(".details")
    page.js("const s = document.getElementById('filter'); s.value = 'all'; s.dispatchEvent(new Event('change', {bubbles: true}))")
    page.wait("each on its own", f"{drift}.length === 3")


@pytest.mark.parametrize("name", SCENES)
def test_scene(still, page, name):
    page.look(1440, 900, still=True)
    show(page, still.control, name)
    check(page)

    nameless = [n["role"]["value"] for n in page.call("Accessibility.getFullAXTree")["nodes"] if not n["ignored"]
                and n["role"]["value"] in NAMED_ROLES and not n["name"]["value"].strip()]
    assert not nameless, nameless
    page.js("document.activeElement.blur(); window.__reached = new Set()")
    for _ in range(min(page.js(f"{REACH}.length"), 60) + 4):
        page.key("Tab")
        assert (unseen := page.js(FOCUSED)) is None, f"no visible focus on {unseen}"
    missed = page.js(f"{REACH}.slice(0, 50).filter(e => !window.__reached.has(e)).map(e => e.outerHTML.slice(0, 90))")
    assert not missed, missed

    page.look(360, 800, dark=True, still=True)
    page.wait("the narrow page", f"({STICKS_OUT}).length === 0 && !document.querySelector('svg.across')")
    check(page)
