"""Measures an open page: what lies outside its box, text that is too small, labels that lie on each other."""

from __future__ import annotations

from typing import Any

LEAST = 12  # pixels of the smallest text


def faults(tab: Any) -> list[str]:
    """What a reader could not see or read of the page as it is now, each in a few words; an empty list where all is well."""
    found: list[str] = tab.evaluate(_MEASURE, LEAST)
    return found


# Text is measured where it is drawn: by the rectangles of its lines, and at the size that its picture scales it to.
_MEASURE = """(least) => {
  const found = new Set();
  const root = document.documentElement;
  const shown = (item) => item.checkVisibility({ visibilityProperty: true });
  const say = (item, what, said) => {
    const place = item.closest("figure, section, header, footer, dialog");
    const where = place ? `${place.tagName.toLowerCase()} ${place.className || place.id}: ` : "";
    found.add(`${where}${what}: ${(said || "").trim().slice(0, 40)}`);
  };
  if (root.scrollWidth > root.clientWidth) found.add(`the page scrolls: ${root.scrollWidth} in ${root.clientWidth}`);

  const inside = (rect, box) =>
    rect.left >= box.left - 1 && rect.right <= box.right + 1 && rect.top >= box.top - 1 && rect.bottom <= box.bottom + 1;
  for (const figure of document.querySelectorAll("figure")) {
    if (!shown(figure)) continue;
    const box = figure.getBoundingClientRect();
    for (const item of figure.querySelectorAll("*")) {
      if (!shown(item)) continue;
      const rect = item.getBoundingClientRect();
      if (rect.width && !inside(rect, box)) say(item, `<${item.tagName}> lies outside`, item.dataset.tip || item.textContent);
    }
  }

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const item = walker.currentNode.parentElement, said = walker.currentNode.textContent;
    if (!said.trim() || ["SCRIPT", "STYLE", "OPTION"].includes(item.tagName) || !shown(item)) continue;
    const scale = item instanceof SVGElement ? Math.abs(item.getScreenCTM().a) : 1;
    const size = scale * parseFloat(getComputedStyle(item).fontSize);
    if (size < least - 0.01) say(item, `text of ${size.toFixed(1)} px`, said);
    // Names that a box cuts end in an ellipsis, and a wide table scrolls in its own box. All other text stays in the window.
    const scrolls = item.closest(".scroll") && item.closest(".scroll").scrollWidth > item.closest(".scroll").clientWidth;
    if (item.closest(".names li, .maps th") || scrolls) continue;
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    for (const rect of range.getClientRects()) {
      if (rect.right > root.clientWidth + 1 || rect.left < -1) say(item, "text leaves the window", said);
    }
  }

  for (const plot of document.querySelectorAll("svg.plot")) {
    if (!shown(plot)) continue;
    const ticks = [...plot.querySelectorAll("text.tick")].map((item) => [item.textContent, item.getBoundingClientRect()]);
    for (const [one, a] of ticks) {
      for (const [other, b] of ticks) {
        const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
        if (a !== b && !apart) say(plot, "ticks lie on each other", `${one} and ${other}`);
      }
    }
  }
  return [...found];
}"""
