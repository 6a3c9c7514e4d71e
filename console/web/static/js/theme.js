// The switch of colours: shown at once, and remembered by the server's cookie.

for (const form of document.querySelectorAll("form.prefer")) {
  form.addEventListener("submit", (submitted) => {
    const button = submitted.submitter;
    if (button?.name !== "theme") return;
    submitted.preventDefault();
    document.documentElement.dataset.theme = button.value;
    document.querySelector("meta[name=color-scheme]").content = button.value === "auto" ? "light dark" : button.value;
    for (const other of form.querySelectorAll("[name=theme]")) other.setAttribute("aria-pressed", String(other === button));
    fetch("/preferences", { method: "POST", body: new URLSearchParams({ theme: button.value, to: "/static/icon.svg" }) });
  });
}
