"use strict";
// Charts: the static picture is replaced by an interactive one when it comes into view.
const options = { renderer: "svg", actions: false, tooltip: { theme: "none" } };
const replace = (figure) => {
  const plot = figure.querySelector(".plot");
  const stage = document.createElement("div");
  stage.setAttribute("aria-hidden", "true"); // the plot's label says what it shows
  const spec = JSON.parse(figure.querySelector("script").textContent);
  vegaEmbed(stage, spec, options).then(() => plot.replaceChildren(stage));
};
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) { seen.unobserve(entry.target); replace(entry.target); }
  }
}, { rootMargin: "200px" });
document.querySelectorAll(".chart").forEach((figure) => seen.observe(figure));

// Tables: a button in every head sorts by its column, by number where a cell begins with one.
const value = (row, column) => {
  const words = row.cells[column].textContent.trim().replaceAll(",", "");
  const number = parseFloat(words);
  return Number.isNaN(number) ? words : number;
};
const compare = (a, b) => {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? -1 : 1;
};
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * compare(value(a, column), value(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
});

// Seconds and machines are in cost.js, since a second run of the same study changes them and nothing else.
if (window.imixCost) {
  const sets = Object.values(window.imixCost);
  const known = sets.reduce((sum, one) => sum + one.known, 0);
  const seconds = sets.reduce((sum, one) => sum + one.seconds.total, 0);
  const machines = [...new Set(sets.flatMap((one) => Object.keys(one.machines)))];
  if (known) {
    const time = seconds < 6000 ? `${(seconds / 60).toFixed(1)} minutes` : `${(seconds / 3600).toFixed(1)} hours`;
    const place = document.querySelector("#cost dd");
    place.textContent = `${time} of training in all (${known} trainings on ${machines.join("; ")})`;
  }
}
