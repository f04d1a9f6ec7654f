// Makes the picture around this script answer: a click on a frame zooms, Search marks frames and tells their share.
// No dependencies; works in a file of its own and within a page, also several times.
(() => {
  const svg = document.currentScript.closest("svg");
  const total = Number(svg.dataset.total), left = Number(svg.dataset.left);
  const width = Number(svg.dataset.width), letter = Number(svg.dataset.letter);
  const told = svg.querySelector(".told"), found = svg.querySelector(".found");
  const frames = Array.from(svg.querySelectorAll(".f"), (node) => ({
    node, box: node.querySelector("rect"), text: node.querySelector("text"), title: node.querySelector("title"),
    name: node.dataset.n, start: Number(node.dataset.x), samples: Number(node.dataset.w), row: Number(node.dataset.r),
  }));
  let zoomed = frames[0];

  function cut(text, letters) {
    if (text.length <= letters) return text;
    return letters < 3 ? "" : text.slice(0, letters - 2) + "..";
  }

  function draw() {
    const scale = width / Math.max(1, zoomed.samples), end = zoomed.start + zoomed.samples;
    for (const frame of frames) {
      const outer = frame.row < zoomed.row && frame.start <= zoomed.start && frame.start + frame.samples >= end;
      const inner = frame.row >= zoomed.row && frame.start >= zoomed.start && frame.start + frame.samples <= end;
      frame.node.classList.toggle("outer", outer);
      frame.node.classList.toggle("gone", !outer && !inner);
      if (!outer && !inner) continue;
      const x = outer ? left : left + (frame.start - zoomed.start) * scale;
      const wide = outer ? width : frame.samples * scale;
      frame.box.setAttribute("x", x);
      frame.box.setAttribute("width", Math.max(0.1, wide - 0.4));
      frame.text.setAttribute("x", x + 3);
      frame.text.textContent = cut(frame.name, Math.floor((wide - 6) / letter));
    }
  }

  function zoom(frame) {
    zoomed = frame;
    draw();
  }

  function matcher(wanted) {
    try {
      const expression = new RegExp(wanted, "i");
      return (name) => expression.test(name);
    } catch {
      return (name) => name.toLowerCase().includes(wanted.toLowerCase());
    }
  }

  // the share of samples with a frame that matches: one within another counts once
  function search(wanted) {
    const matches = wanted ? matcher(wanted) : () => false;
    const hits = frames.filter((frame) => {
      const hit = frame.row > 0 && matches(frame.name);
      frame.node.classList.toggle("hit", hit);
      return hit;
    });
    hits.sort((a, b) => a.start - b.start || a.row - b.row);
    let matched = 0, reached = 0;
    for (const hit of hits) {
      const end = hit.start + hit.samples;
      if (end > reached) {
        matched += end - Math.max(reached, hit.start);
        reached = end;
      }
    }
    const share = (100 * matched / Math.max(1, total)).toFixed(2);
    found.textContent = wanted ? `"${cut(wanted, 40)}" matched: ${share} %` : "";
  }

  function ask() {
    const wanted = window.prompt("Search frames for (a regular expression):", "");
    if (wanted !== null) search(wanted);
  }

  function reset() {
    zoom(frames[0]);
    search("");
  }

  const does = {search: ask, reset};
  for (const button of svg.querySelectorAll(".button")) {
    button.style.visibility = "visible";
    button.addEventListener("click", () => does[button.dataset.does]());
  }
  const byNode = new Map(frames.map((frame) => [frame.node, frame]));
  const at = (event) => byNode.get(event.target.closest(".f"));
  svg.addEventListener("click", (event) => { if (at(event)) zoom(at(event)); });
  svg.addEventListener("mouseover", (event) => {
    const frame = at(event);
    told.textContent = frame ? cut(frame.title.textContent, 150) : "";
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") reset(); });
})();
