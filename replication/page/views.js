// One view at a time: the one with the element named after # in the address, else the first. Without scripts: all.
(() => {
  const views = [...document.querySelectorAll(".view")];
  const links = [...document.querySelectorAll("nav a")];
  const name = document.title;

  function show() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const view = target?.closest(".view") ?? views[0];
    const part = view.classList.contains("rule") ? "rules" : view.id;
    for (const each of views) each.hidden = each !== view;
    for (const link of links) {
      if (link.hash === `#${part}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${view.querySelector("h2").textContent.trim()} - ${name}`;
    view.dispatchEvent(new Event("shown"));
    return target && target !== view ? target : view;
  }

  // Screen readers and the keyboard continue at the heading of the requested part.
  addEventListener("hashchange", () => {
    const target = show();
    target.scrollIntoView();
    target.querySelector("[tabindex='-1']")?.focus({ preventScroll: true });
  });
  show().scrollIntoView();
})();
