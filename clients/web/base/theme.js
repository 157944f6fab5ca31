// What was chosen on this device, before anything is drawn: the theme, by default the system's, and whether
// lines of code are wrapped.
document.documentElement.dataset.theme = localStorage.getItem("trialogue-theme") ?? "system";
document.documentElement.dataset.wrap = localStorage.getItem("trialogue-wrap") ?? "false";
