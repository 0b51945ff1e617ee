"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  // Sorting: rows without a value and withheld ones stay last, whichever way.
  const valueOf = (row, column, kind) => {
    const cell = row.classList.contains("withheld") ? null : row.cells[column];
    const raw = cell ? cell.dataset.v : undefined;
    return raw === undefined ? null : kind === "number" ? Number(raw) : raw;
  };
  const sort = (table, column, kind, way) => {
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row, place) => ({ row, place, value: valueOf(row, column, kind) }));
    keyed.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
      const order = kind === "number" ? a.value - b.value : a.value.localeCompare(b.value);
      return way * order || a.place - b.place;
    });
    body.append(...keyed.map((item) => item.row));
  };
  for (const head of all("th[data-kind]")) {
    head.querySelector("button").addEventListener("click", () => {
      const kind = head.dataset.kind;
      const now = head.getAttribute("aria-sort");
      const next = now === "descending" ? "ascending" : now === "ascending" ? "descending" : kind === "text" ? "ascending" : "descending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", next);
      sort(head.closest("table"), head.cellIndex, kind, next === "ascending" ? 1 : -1);
    });
  }

  // Filters: data set and backbone hide blocks, the name hides rows and dims what pictures show of other inits.
  // A report has the filters that have something to choose from.
  const inputs = { init: byId("filter-init"), dataset: byId("filter-dataset"), backbone: byId("filter-backbone") };
  const wanted = (name) => (inputs[name] ? inputs[name].value : "");
  // What rows are called where that is not the name of the init, as `placebo`; pictures know the name alone.
  const called = new Map(all("tr[data-init]").map((row) => [row.dataset.init, row.cells[0].dataset.v || row.cells[0].textContent]));
  const filter = () => {
    const part = wanted("init").trim().toLowerCase();
    const dataset = wanted("dataset"), backbone = wanted("backbone");
    for (const item of all("[data-init]")) {
      const names = `${item.dataset.init} ${called.get(item.dataset.init)}`;
      const out = !names.toLowerCase().includes(part);
      if (item.tagName === "TR") item.hidden = out;
      else item.classList.toggle("dim", out);
    }
    for (const item of all("[data-dataset]")) {
      item.hidden = Boolean((dataset && item.dataset.dataset !== dataset) || (backbone && item.dataset.backbone !== backbone));
    }
    let shown = 0, whole = 0;
    for (const table of all("table[id$=-board]")) {
      const rows = all("tbody tr", table);
      const open = table.closest("article").hidden ? 0 : rows.filter((row) => !row.hidden).length;
      whole += rows.length;
      shown += open;
      table.closest("section").querySelector(".nothing").hidden = open > 0;
    }
    byId("count").textContent = shown === whole ? "" : `${shown} of ${whole} rows`;
    byId("empty").hidden = all("article.family").some((item) => !item.hidden);
  };
  const controls = Object.values(inputs).filter((item) => item);
  for (const item of controls) item.addEventListener("input", filter);
  if (controls.length) filter();

  // Provenance.
  for (const button of all("button.provenance")) {
    button.addEventListener("click", () => byId(button.dataset.dialog).showModal());
  }
  for (const dialog of all("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  // What scrolls can be reached by keyboard; what does not is no stop on the way.
  const reachable = () => {
    for (const box of all(".scroll")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  window.addEventListener("resize", reachable);
  reachable();

  // What the pointer is on, or a finger has touched: its numbers, and everything else of its init.
  const tip = byId("tip");
  let lit = [];
  const light = (init, root) => {
    for (const item of lit) item.classList.remove("lit");
    for (const item of all(".has-lit")) item.classList.remove("has-lit");
    lit = [];
    if (init === undefined || !root) return;
    lit = all(".init", root).filter((item) => item.dataset.init === init);
    for (const item of lit) item.classList.add("lit");
    root.classList.add("has-lit");
  };
  const show = (said, x, y) => {
    tip.hidden = !said;
    if (!said) return;
    tip.textContent = said;
    const box = tip.getBoundingClientRect();
    const left = Math.min(x + 12, document.documentElement.clientWidth - box.width - 8);
    const above = y + 16 + box.height > window.innerHeight;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, above ? y - box.height - 10 : y + 16)}px`;
  };

  // A finger is wider than a mark: the nearest one in reach is meant.
  const REACH = 24;
  const nearest = (root, x, y) => {
    let found = null, least = REACH;
    for (const mark of all(".plot [data-tip]", root)) {
      const box = mark.getBoundingClientRect();
      const far = Math.hypot(x - (box.left + box.right) / 2, y - (box.top + box.bottom) / 2);
      if (box.width && far < least) [found, least] = [mark, far];
    }
    return found;
  };

  // Learning curves: the value of every init where the pointer is, read off its thick line.
  const points = new WeakMap();
  const pointsOf = (path) => {
    if (!points.has(path)) points.set(path, path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number)));
    return points.get(path);
  };
  const readOff = (plot, x) => {
    const box = plot.getBoundingClientRect();
    const at = (100 * (x - box.left)) / box.width;
    if (at < 0 || at > 100) return "";
    const [low, high, log, height] = plot.dataset.y.split(" ").map(Number);
    const value = (y) => (log ? low * (high / low) ** (1 - y / height) : high - ((high - low) * y) / height);
    const said = [];
    for (const group of all("g.init", plot)) {
      const path = group.querySelector("path.thick");
      if (!path) continue;
      const [, y] = pointsOf(path).reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
      said.push([value(y), `${group.dataset.init}: ${value(y).toPrecision(3)}`]);
    }
    const place = (Number(plot.dataset.to) * at) / 100;
    const where = plot.dataset.unit === "step" ? `step ${Math.round(place)}` : `${place.toPrecision(3)} ${plot.dataset.unit}`;
    return [where, ...said.sort((a, b) => b[0] - a[0]).map((item) => item[1])].join("\n");
  };

  const point = (event, touched) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const chart = target.closest("figure");
    const mark = target.closest("[data-tip]") || (touched && chart ? nearest(chart, event.clientX, event.clientY) : null);
    const group = (mark || target).closest(".init");
    light(group ? group.dataset.init : undefined, group ? group.closest("figure") : null);
    const plot = mark ? null : target.closest("[data-y]");
    show(mark ? mark.dataset.tip : plot ? readOff(plot, event.clientX) : "", event.clientX, event.clientY);
  };
  document.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") point(event, false); });
  document.addEventListener("click", (event) => point(event, true));
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
