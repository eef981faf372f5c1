// Draws lines over two axes as SVG.
const plot = (() => {
  const MARGIN = { left: 64, right: 16, top: 12, bottom: 44 };
  const HEIGHT = 380;

  function create(name, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  // A number in few characters.
  function short(value) {
    const size = Math.abs(value);
    return value && (size >= 1e4 || size < 1e-2) ? value.toExponential(1) : String(+value.toPrecision(4));
  }

  // About six round values from low to high; on a logarithmic axis powers of ten.
  function ticks(low, high, logarithmic) {
    if (logarithmic) {
      const step = Math.max(1, Math.ceil(Math.log10(high / low) / 8));
      return ticks(Math.log10(low), Math.log10(high), false).filter((power) => power % step === 0).map((power) => 10 ** power);
    }
    const rough = (high - low || 1) / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, n) => (first + n) * step);
  }

  // Maps values to positions on the screen.
  function scale(low, high, from, to, logarithmic) {
    const f = logarithmic ? Math.log10 : (value) => value;
    return (value) => from + ((to - from) * (f(value) - f(low))) / (f(high) - f(low) || 1);
  }

  // `lines` have `points` [x, y] and the attributes in `look`. `point` is called with the x under the pointer.
  function draw(place, { lines, along, measure, title, logarithmic, point }) {
    const width = Math.max(300, place.clientWidth);
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, HEIGHT - MARGIN.bottom];
    const points = lines.flatMap((line) => line.points);
    const end = Math.max(...points.map(([x]) => x));
    const [low, high] = [Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y))];
    const x = scale(0, end, left, right, false);
    const y = scale(low, high, bottom - 8, top + 8, logarithmic);
    const svg = create("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": title });
    for (const value of ticks(low, high, logarithmic)) {
      svg.append(
        create("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
        create("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, short(value)),
      );
    }
    for (const value of ticks(0, end, false)) {
      svg.append(create("text", { x: x(value), y: bottom + 20, "text-anchor": "middle" }, short(value)));
    }
    const middle = (top + bottom) / 2;
    svg.append(
      create("text", { x: (left + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, along),
      create("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, measure),
    );
    for (const line of lines) {
      const d = line.points.map(([a, b], n) => `${n ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
      svg.append(create("path", { d: line.points.length > 1 ? d : `${d}h0`, ...line.look }));
    }
    const cursor = svg.appendChild(create("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" }));
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const share = (((event.clientX - box.left) * width) / box.width - left) / (right - left);
      const at = Math.min(Math.max(share, 0), 1) * end;
      for (const name of ["x1", "x2"]) cursor.setAttribute(name, x(at));
      cursor.setAttribute("visibility", "visible");
      point(at);
    });
    place.replaceChildren(svg);
  }

  return { draw, short, create };
})();
