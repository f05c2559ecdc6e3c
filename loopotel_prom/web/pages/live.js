// Swaps the live part of the page for a new one, every two seconds while it is looked at.
(() => {
  const every = 2000;
  const status = document.getElementById("status");
  const pulse = document.getElementById("pulse");
  let live = document.getElementById("live");
  if (!live || live.dataset.live !== "yes") return;

  const put = (node, words) => { if (node.textContent !== words) node.textContent = words; };
  const place = (node) => node && (node.id ? "#" + node.id : node.matches("a[href]") ? `a[href="${node.getAttribute("href")}"]` : null);

  const swap = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const next = page.getElementById("live");
    if (!next) return;
    for (const open of live.querySelectorAll("details[open][id]")) {
      next.querySelector("#" + open.id)?.setAttribute("open", "");
    }
    const focused = live.contains(document.activeElement) ? place(document.activeElement) : null;
    const scrolled = [...live.querySelectorAll(".scroll[id]")].map((each) => [each.id, each.scrollLeft]);
    live.replaceWith(next);
    live = next;
    for (const [id, left] of scrolled) {
      const box = document.getElementById(id);
      if (box) box.scrollLeft = left;
    }
    if (focused) live.querySelector(focused)?.focus({ preventScroll: true });
    document.title = next.dataset.title;
    put(status, next.dataset.status);
    put(pulse, next.dataset.live === "yes" ? "live" : "ended");
  };

  const update = async () => {
    if (document.hidden || live.dataset.live !== "yes") return;
    try {
      const answer = await fetch(location.pathname + "?part=live", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      swap(await answer.text());
    } catch {
      put(pulse, "not updating: the endpoint does not answer");
    }
  };
  const loop = async () => {
    await update();
    if (live.dataset.live === "yes") setTimeout(loop, every);
  };
  document.addEventListener("visibilitychange", update);
  put(pulse, "live");
  setTimeout(loop, every);
})();
