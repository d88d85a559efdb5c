// The samples at one moment, large and side by side; without scripts the rows of small ones remain.
const player = document.querySelector(".player");
if (player) {
  const slider = player.querySelector("input");
  const rows = [...document.querySelectorAll(".frames")].map((row) => [...row.querySelectorAll("[data-column]")]);
  const show = () => document.querySelectorAll(".stage").forEach((stage, i) => {
    const upToNow = rows[i].slice(0, Number(slider.value) + 1);
    rows[i].forEach((frame) => frame.classList.toggle("chosen", frame === upToNow.at(-1)));
    // A run that ended earlier stays at its last picture.
    const shown = upToNow.findLast((frame) => frame.querySelector("img"));
    stage.querySelector(".at").textContent = shown ? shown.querySelector("figcaption").textContent : "no samples";
    stage.querySelector(".picture").replaceChildren(...(shown ? [shown.querySelector("img").cloneNode()] : []));
  });
  slider.addEventListener("input", show);
  rows.flat().forEach((frame) => frame.addEventListener("click", () => { slider.value = frame.dataset.column; show(); }));
  player.hidden = false;
  show();
}
