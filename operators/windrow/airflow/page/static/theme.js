/* Light or dark as Airflow is, before anything is drawn. Airflow's page around this one says which; else its storage,
   else the system. */
"use strict";
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const around = () => {
    try {
      return window.parent === window ? null : window.parent.document.documentElement;
    } catch {
      return null;
    }
  };
  const chosen = () => {
    const names = around()?.classList;
    if (names?.contains("dark")) return "dark";
    if (names?.contains("light")) return "light";
    let kept = null;
    try {
      kept = window.localStorage.getItem("theme");
    } catch { /* storage may be closed to us */ }
    if (kept === "dark" || kept === "light") return kept;
    return system.matches ? "dark" : "light";
  };
  const apply = () => {
    const theme = chosen();
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("windrow-theme"));
  };
  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  const html = around();
  if (html) new MutationObserver(apply).observe(html, { attributes: true, attributeFilter: ["class"] });
})();
