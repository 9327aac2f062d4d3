// A button that opens every part of the page and closes it again; print shows all of them.
const folds = [...document.querySelectorAll("details.fold")];

function setAll(open) {
  for (const fold of folds) fold.open = open;
}

const opener = document.createElement("button");
opener.type = "button";
opener.className = "opener";

function label() {
  opener.textContent = folds.every((fold) => fold.open) ? "Close all" : "Open all";
}

label();
opener.addEventListener("click", () => setAll(!folds.every((fold) => fold.open)));
for (const fold of folds) fold.addEventListener("toggle", label);
document.querySelector("#more > h2").after(opener);
addEventListener("beforeprint", () => setAll(true));
