// A button beside each path that copies it, exactly; where a browser refuses, the path is selected.
async function copy(path, button) {
  try {
    await navigator.clipboard.writeText(path.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(path);
    button.textContent = "Selected";
  }
}

for (const path of document.querySelectorAll(".path")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy path";
  button.addEventListener("click", () => copy(path.querySelector("bdi"), button));
  path.after(button);
}
