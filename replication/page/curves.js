// Learning curves of the checked settings, as means over seeds and as single seeds, along the chosen axis.
(() => {
  const groups = JSON.parse(document.getElementById("curves-data").textContent);
  const [choice, axis, seeds, list, chart] = ["group", "axis", "seeds", "settings", "chart"].map((id) =>
    document.getElementById(id),
  );
  const [readout, caution, numbers] = ["readout", "caution", "numbers"].map((id) => document.getElementById(id));
  const AXES = { epochs: "epochs", flops: "training FLOPs", seconds: "seconds" };
  const DASHES = ["none", "7 3", "2 3", "9 3 2 3"];
  const COLOURS = 8;
  const FIRST = 4; // settings checked at the start

  const group = () => groups[choice.value];
  const look = (place) => ({
    stroke: `var(--c${place % COLOURS})`,
    "stroke-dasharray": DASHES[Math.floor(place / COLOURS) % DASHES.length],
  });

  // The length of an epoch of a run along the axis.
  const unit = (setting, run) =>
    ({ epochs: 1, flops: setting.flops / setting.epochs, seconds: run.seconds / setting.epochs })[axis.value];
  const along = (setting, run) => run.points.map(([epoch, value]) => [epoch * unit(setting, run), value]);

  // The mean over the runs with a point at an epoch, along the mean length of that epoch.
  function mean(setting) {
    const sums = new Map();
    for (const run of setting.runs) {
      for (const [epoch, value] of run.points) {
        const [x, y, n] = sums.get(epoch) ?? [0, 0, 0];
        sums.set(epoch, [x + epoch * unit(setting, run), y + value, n + 1]);
      }
    }
    return [...sums].sort(([a], [b]) => a - b).map(([, [x, y, n]]) => [x / n, y / n]);
  }

  // The value of the point nearest to a position, empty if none is within a tenth of the line.
  function near(points, at) {
    const [x, y] = points.reduce((best, each) => (Math.abs(each[0] - at) < Math.abs(best[0] - at) ? each : best));
    return Math.abs(x - at) <= 0.1 * points.at(-1)[0] ? plot.short(y) : "";
  }

  function draw() {
    const { logarithmic, measure, title, devices, settings } = group();
    const drawn = [...list.querySelectorAll("input:checked")].map((box) => {
      const setting = settings[box.value];
      return { setting, look: look(+box.value), points: mean(setting) };
    });
    const every = seeds.checked
      ? drawn.flatMap(({ setting, look }) =>
          setting.runs.map((run) => ({ points: along(setting, run), look: { class: "seed", ...look } })),
        )
      : [];
    const lines = [...every, ...drawn.map(({ look, points }) => ({ points, look: { class: "mean", ...look } }))];
    const apart = axis.value === "seconds" && devices.length > 1;
    caution.textContent = apart ? `Seconds on different devices are not comparable: ${devices.join(", ")}.` : "";
    readout.textContent = "";
    if (lines.length) {
      plot.draw(chart, {
        lines, logarithmic, measure,
        along: AXES[axis.value],
        title: `${measure} along ${AXES[axis.value]}, ${title}. The table below has the numbers.`,
        point(at) {
          const values = drawn.map(({ setting, points }) => `${setting.name} ${near(points, at) || "none"}`);
          readout.textContent = `At ${plot.short(at)} ${AXES[axis.value]}: ${values.join(", ")}`;
        },
      });
    } else chart.replaceChildren("No setting is checked.");
    tabulate(drawn);
  }

  function tabulate(drawn) {
    const body = numbers.tBodies[0];
    body.replaceChildren();
    for (const { setting, points } of drawn) {
      const row = body.insertRow();
      const head = row.appendChild(document.createElement("th"));
      head.scope = "row";
      head.textContent = setting.name;
      const [end] = points.at(-1);
      const values = [0.25, 0.5, 1].map((share) => near(points, share * end));
      for (const value of [setting.runs.length, ...values]) {
        const cell = row.insertCell();
        cell.className = "number";
        cell.textContent = value;
      }
    }
  }

  // The settings of a task, with those in `ids` checked; by default the baseline and the best.
  function list_settings(ids) {
    const { settings } = group();
    const able = settings.filter((setting) => setting.runs.some((run) => run.points.length));
    const first = [...able].sort((a, b) => b.baseline - a.baseline).slice(0, FIRST).map((setting) => setting.id);
    list.replaceChildren(list.firstElementChild);
    for (const setting of able) {
      const place = settings.indexOf(setting);
      const label = list.appendChild(document.createElement("label"));
      const box = label.appendChild(document.createElement("input"));
      Object.assign(box, { type: "checkbox", value: place, checked: (ids ?? first).includes(setting.id) });
      const sample = plot.create("path", { d: "M0 4H32", fill: "none", "stroke-width": 3, ...look(place) });
      label.append(plot.create("svg", { viewBox: "0 0 32 8", "aria-hidden": "true" }, sample), setting.name);
    }
    draw();
  }

  groups.forEach((each, place) => choice.add(new Option(each.title, place)));
  choice.addEventListener("change", () => list_settings());
  for (const each of [axis, seeds, list]) each.addEventListener("change", draw);
  document.getElementById("drawing").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => {
    const id = event.target.closest("[data-curve]")?.dataset.curve;
    if (!id) return;
    const found = groups.findIndex((each) => each.settings.some((setting) => setting.id === id));
    choice.value = found;
    const baseline = group().settings.find((setting) => setting.baseline);
    list_settings([id, baseline?.id]);
  });
  document.getElementById("curves").addEventListener("shown", draw);
  addEventListener("resize", draw);
  if (groups.length) list_settings();
})();
