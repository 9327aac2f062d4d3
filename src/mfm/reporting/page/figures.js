// What lies below the pointer, or has the focus, says its value.
const figures = new Map(); // marks of each drawing
const said = document.createElement("div");
said.id = "said";
said.setAttribute("aria-hidden", "true"); // a screen reader has the mark's own name
said.hidden = true;
document.body.append(said);
let told = null;

function tell(mark) {
  told?.classList.remove("told");
  told = mark;
  said.hidden = !mark;
  if (!mark) return;
  mark.classList.add("told");
  said.textContent = mark.getAttribute("aria-label");
  place();
}

function place() {
  if (!told) return;
  const at = told.getBoundingClientRect();
  const left = at.left + (at.width - said.offsetWidth) / 2;
  said.style.left = `${Math.max(4, Math.min(left, innerWidth - said.offsetWidth - 4))}px`;
  const above = at.top - said.offsetHeight - 6;
  said.style.top = `${above > 4 ? above : at.bottom + 6}px`;
}

const isShown = (mark) => !mark.closest("[data-off]");

function nearest(marks, event) {
  let found = null;
  let least = 16; // pixels; of two marks as near, the later one lies on top
  for (const mark of marks.filter(isShown)) {
    const { left, right, top, bottom } = mark.getBoundingClientRect();
    const x = Math.max(left - event.clientX, 0, event.clientX - right);
    const y = Math.max(top - event.clientY, 0, event.clientY - bottom);
    if (Math.hypot(x, y) <= least) [found, least] = [mark, Math.hypot(x, y)];
  }
  return found;
}

// One stop of the Tab key for each figure; arrow keys go from mark to mark.
function stopAt(marks, stop) {
  for (const mark of marks) mark.setAttribute("tabindex", mark === stop ? "0" : "-1");
}

function go(marks, event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const shown = marks.filter(isShown);
  shown[(shown.indexOf(event.target) + step + shown.length) % shown.length].focus();
}

for (const svg of document.querySelectorAll("figure svg")) {
  const marks = [...svg.querySelectorAll("title")].map((title) => {
    const mark = title.parentNode;
    mark.setAttribute("aria-label", title.textContent);
    title.remove(); // or the browser would say it a second time
    return mark;
  });
  figures.set(svg, marks);
  stopAt(marks, marks[0]);
  svg.addEventListener("keydown", (event) => go(marks, event));
  svg.addEventListener("focusin", (event) => {
    stopAt(marks, event.target);
    tell(event.target);
  });
  svg.addEventListener("focusout", () => tell(null));
}
for (const kind of ["pointermove", "pointerdown"]) {
  addEventListener(kind, (event) => {
    const marks = figures.get(event.target.closest("figure svg"));
    tell(marks ? nearest(marks, event) : null);
  });
}
addEventListener("scroll", place, { capture: true, passive: true });
addEventListener("keydown", (event) => {
  if (event.key === "Escape") tell(null);
});

// A row of buttons switches arms off and on in every figure; it is there while one is on screen.
const arms = document.getElementById("arms");
const drawn = [...document.querySelectorAll("figure [data-arm]")];
const seen = new Set();
const watch = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    if (isIntersecting) seen.add(target);
    else seen.delete(target);
  }
  arms.hidden = seen.size === 0 && !arms.contains(document.activeElement);
});
for (const svg of figures.keys()) {
  if (svg.closest("details") && svg.querySelector("[data-arm]")) watch.observe(svg);
}
arms.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  for (const part of drawn) {
    if (part.dataset.arm === button.value) part.toggleAttribute("data-off", !on);
  }
  for (const marks of figures.values()) {
    if (!marks.some((mark) => mark.tabIndex === 0 && isShown(mark))) {
      stopAt(marks, marks.find(isShown));
    }
  }
});
