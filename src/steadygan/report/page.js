// The samples at one moment, large and side by side; without scripts the rows of small ones remain.
const player = document.querySelector(".player");
if (player) {
  const slider = player.querySelector("input");
  const show = () => {
    document.querySelectorAll(".stage").forEach((stage) => {
      const row = document.querySelectorAll(".frames")[stage.dataset.row];
      row.querySelectorAll("figure").forEach((frame) => frame.classList.toggle("chosen", frame.dataset.column === slider.value));
      const chosen = row.querySelector(`[data-column="${slider.value}"]`);
      const picture = chosen.querySelector("img");
      stage.querySelector(".at").textContent = chosen.querySelector("figcaption").textContent;
      stage.querySelector(".picture").replaceChildren(...(picture ? [picture.cloneNode()] : []));
    });
  };
  slider.addEventListener("input", show);
  document.querySelectorAll(".frames [data-column]").forEach((frame) => {
    frame.addEventListener("click", () => { slider.value = frame.dataset.column; show(); });
  });
  player.hidden = false;
  show();
}
