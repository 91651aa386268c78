// The page of a folder: sorting and searching. The table is complete without this script.
"use strict";
(() => {
  const table = document.getElementById("entries");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const search = document.getElementById("search");

  function compare(a, b, column) {
    const [first, second] = [a.cells[column], b.cells[column]];
    if (first.dataset.value !== undefined && second.dataset.value !== undefined) {
      return Number(first.dataset.value) - Number(second.dataset.value);
    }
    return first.textContent.localeCompare(second.textContent, "en", { numeric: true });
  }

  function sortBy(column) {
    const descending = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.setAttribute("aria-sort", "none"));
    heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    // Cells without a value come last both ways.
    const empty = rows.filter((row) => !row.cells[column].textContent);
    const filled = rows.filter((row) => row.cells[column].textContent);
    filled.sort((a, b) => (descending ? compare(b, a, column) : compare(a, b, column)));
    body.append(...filled, ...empty);
  }

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    document.getElementById("found").textContent = words.length ? `${shown} of ${rows.length}` : "";
  }

  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column)));
  search.addEventListener("input", find);
  document.querySelector(".search").hidden = false;
  find(); // a browser may have kept what was typed
})();
