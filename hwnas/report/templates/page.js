// Copy buttons.
for (const button of document.querySelectorAll(".command button")) {
  button.hidden = false;
  button.onclick = async () => {
    const line = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(line.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(line);
      button.textContent = "Selected";
    }
  };
}
