// A click on a column's head sorts the rows by it, another one turns them round. Without scripts the tables stay as they are.
(() => {
  const keyOf = (row, place) => {
    const cell = row.cells[place];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === typeof b ? a.localeCompare(b, "en", {numeric: true}) : typeof a === "number" ? -1 : 1;

  function sort(table, head) {
    const downwards = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [keyOf(row, head.cellIndex), row]);
    rows.sort(([a], [b]) => downwards ? compare(b, a) : compare(a, b));
    body.append(...rows.map(([, row]) => row));
  }

  for (const table of document.querySelectorAll(".grid table")) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head));
    }
  }
})();
