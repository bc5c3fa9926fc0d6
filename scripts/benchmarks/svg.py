"""Line charts."""

import math

from . import report

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 150, 36, 48
COLOURS = ("#1f6fb4", "#d9730d", "#2f8f4e", "#b03a48", "#6b4fa0", "#7a6a53")


def chart(name, title, across, up, lines, logarithmic=False):
    """Writes target/bench/NAME.svg. `lines`: points by the name of a line; `logarithmic`: the horizontal axis."""
    points = [point for line in lines.values() for point in line]
    place_x = horizontal(sorted({x for x, _ in points}), logarithmic)
    step, top = scale(max(y for _, y in points))

    def place_y(y):
        return HEIGHT - BOTTOM - max(y, 0) / top * (HEIGHT - TOP - BOTTOM)

    parts = [text(WIDTH / 2, 20, title, "middle", 14), text((WIDTH + LEFT - RIGHT) / 2, HEIGHT - 10, across, "middle")]
    parts.append(text(10, TOP - 10, up, "start"))
    for number in range(round(top / step) + 1):
        y = place_y(number * step)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, label(number * step), "end"))
    for x in sorted({x for x, _ in points}):
        parts.append(text(place_x(x), HEIGHT - BOTTOM + 18, label(x), "middle"))
    for index, (key, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        parts.append(text(WIDTH - RIGHT + 12, TOP + 10 + 18 * index, key, "start", 12, colour))
    report.FOLDER.mkdir(parents=True, exist_ok=True)
    (report.FOLDER / f"{name}.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def horizontal(values, logarithmic):
    measure = (lambda x: math.log(x)) if logarithmic else (lambda x: x)
    low, high = measure(values[0]), measure(values[-1])
    width = WIDTH - LEFT - RIGHT
    return lambda x: LEFT + 8 + ((measure(x) - low) / (high - low) if high > low else 0.5) * (width - 16)


def scale(most):
    """A round step between lines, and the end of the axis."""
    rough = max(most, 1e-9) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return step, step * math.ceil(max(most, 1e-9) / step)


def label(number):
    if number >= 1000 and number % 100 == 0:
        return f"{number / 1000:g}k"
    return f"{number:g}"


def text(x, y, content, anchor, size=12, colour="#333"):
    content = str(content).replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{content}</text>'
