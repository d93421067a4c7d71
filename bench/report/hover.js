// Pointing at a policy anywhere in a section brings it out everywhere in that section.
for (const section of document.querySelectorAll("section")) {
  const marked = section.querySelectorAll("[data-policy]");
  const point = (event) => {
    const at = event.target.closest("[data-policy]");
    section.classList.toggle("pointing", at !== null);
    for (const one of marked) {
      one.classList.toggle("pointed", at !== null && one.dataset.policy === at.dataset.policy);
    }
  };
  section.addEventListener("mouseover", point);
  section.addEventListener("focusin", point);
  section.addEventListener("mouseleave", () => {
    section.classList.remove("pointing");
    for (const one of marked) one.classList.remove("pointed");
  });
}
