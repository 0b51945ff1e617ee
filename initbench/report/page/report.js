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
  const text = byId("filter-init"), dataset = byId("filter-dataset"), backbone = byId("filter-backbone");
  const filter = () => {
    const part = text.value.trim().toLowerCase();
    for (const item of all("[data-init]")) {
      const out = !item.dataset.init.toLowerCase().includes(part);
      if (item.tagName === "TR") item.hidden = out;
      else item.classList.toggle("dim", out);
    }
    for (const item of all("[data-dataset]")) {
      const out = (dataset.value && item.dataset.dataset !== dataset.value) || (backbone.value && item.dataset.backbone !== backbone.value);
      if (item instanceof SVGElement) item.classList.toggle("dim", Boolean(out));
      else item.hidden = Boolean(out);
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
  for (const item of [text, dataset, backbone]) item.addEventListener("input", filter);
  filter();

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

  // What the pointer is on: its numbers, and everything else of its init.
  const tip = byId("tip");
  let lit = [];
  const light = (init, root) => {
    for (const item of lit) item.classList.remove("lit");
    for (const item of all(".has-lit")) item.classList.remove("has-lit");
    lit = [];
    if (init === undefined || !root) return;
    lit = all("g.init", root).filter((item) => item.dataset.init === init);
    for (const item of lit) item.classList.add("lit");
    root.classList.add("has-lit");
  };
  document.addEventListener("pointermove", (event) => {
    const mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    const group = event.target instanceof Element ? event.target.closest("g.init") : null;
    light(group ? group.dataset.init : undefined, group ? group.closest("svg") : null);
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 12, document.documentElement.clientWidth - box.width - 8);
    const above = event.clientY + 16 + box.height > window.innerHeight;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${above ? event.clientY - box.height - 10 : event.clientY + 16}px`;
  });
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
