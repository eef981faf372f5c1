// The leaderboard: sorting by column heading, search, filters, citations.
(() => {
  const board = document.getElementById("board");
  const body = board.tBodies[0];
  const rows = [...body.rows];
  const form = document.querySelector("#leaderboard .filters");
  const filters = [...form.querySelectorAll("[data-filter]")];
  const heads = [...board.tHead.rows[0].cells].filter((head) => head.dataset.key);
  const cell = (row, key) => row.querySelector(`[data-key="${key}"]`).dataset.value;
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  function filter() {
    const asked = document.getElementById("search").value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const found = asked.every((word) => words.get(row).includes(word));
      row.hidden = !found || filters.some((each) => each.value && row.dataset[each.dataset.filter] !== each.value);
      shown += !row.hidden;
    }
    document.getElementById("count").textContent = `${shown} of ${rows.length} settings`;
  }

  // Ascending, descending, then the order of the page. Rows without a value come last.
  function sort(head) {
    const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
    const order = next === undefined ? "ascending" : next;
    for (const each of heads) each.removeAttribute("aria-sort");
    if (order) head.setAttribute("aria-sort", order);
    const sign = order === "descending" ? -1 : 1;
    const compare = (a, b) => {
      const [one, other] = [cell(a, head.dataset.key), cell(b, head.dataset.key)];
      if (one === "" || other === "") return (one === "") - (other === "");
      const difference = one - other;
      return sign * (Number.isNaN(difference) ? one.localeCompare(other, "en", { numeric: true }) : difference);
    };
    body.append(...(order ? rows.toSorted(compare) : rows));
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
    return true;
  }

  for (const head of heads) head.firstElementChild.addEventListener("click", () => sort(head));
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("[type=reset]").addEventListener("click", (event) => {
    event.preventDefault();
    form.reset();
    filter();
  });
  document.addEventListener("click", async (event) => {
    const text = event.target.closest("[data-citation]")?.dataset.citation;
    if (!text) return;
    const done = await copy(text);
    document.querySelector(".copied").textContent = `${done ? "Copied" : "Copy this by hand"}: ${text}`;
  });
})();
