// The theme that was chosen on this device, before anything is drawn; by default the system's.
document.documentElement.dataset.theme = localStorage.getItem("trialogue-theme") ?? "system";
