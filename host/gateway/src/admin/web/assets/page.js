// Updates texts and charts of an open page, and asks before a change. The values are set as text and
// attributes, never as markup.
"use strict";
(() => {
  const live = document.getElementById("live");
  const show = (text) => { if (live && live.textContent !== text) live.textContent = text; };
  const each = (attribute, values, apply) => {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      const value = values[element.getAttribute(attribute)];
      if (typeof value === "string") apply(element, value);
    }
  };
  const source = new EventSource("events");
  source.addEventListener("update", (event) => {
    const update = JSON.parse(event.data);
    each("data-text", update.text, (element, value) => {
      if (element.textContent !== value) element.textContent = value;
    });
    each("data-state-of", update.state, (element, value) => element.setAttribute("data-state", value));
    each("data-points", update.points, (element, value) => element.setAttribute("points", value));
    show("live");
  });
  source.addEventListener("error", () => {
    show(source.readyState === EventSource.CLOSED ? "not live: open a new link" : "connecting");
  });
  document.addEventListener("submit", (event) => {
    const question = event.target.getAttribute("data-confirm");
    if (question && !window.confirm(`${question}?`)) event.preventDefault();
  });
})();
