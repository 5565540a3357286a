// What htmx does not do for the pages. Every flow works without either.
//   form[data-most=BYTES]   is not sent if its texts and files are larger; data-too-much says so
//   [data-copy=ID], [data-print=ID]  buttons that only make sense here
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);

  function notice(text) {
    const box = document.createElement("div"), line = document.createElement("p");
    box.className = "notice bad";
    line.textContent = text;
    box.append(line);
    $("notice").replaceChildren(box);
    $("notice").scrollIntoView({ block: "nearest" });
  }

  function hold(form, on) {
    form.toggleAttribute("data-held", on);
    form.setAttribute("aria-busy", String(on));
    for (const button of form.querySelectorAll("button")) button.disabled = on;
  }

  // Says so, and stops what would send it.
  function tooMuch(form, event) {
    const most = Number(form && form.dataset.most);
    if (!most) return false;
    let size = 0;
    for (const value of new FormData(form).values()) size += typeof value === "string" ? new Blob([value]).size : value.size;
    if (size <= most - 4096) return false;
    event.preventDefault();
    notice(form.dataset.tooMuch);
    return true;
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.hasAttribute("data-held")) return event.preventDefault();
    if (tooMuch(form, event) || form.hasAttribute("hx-post")) return;
    if (form.method === "post") setTimeout(() => hold(form, true)); // after the browser has taken the pressed button's value
  });
  // A page that comes back from the browser's memory must not stay locked.
  addEventListener("pageshow", () => document.querySelectorAll("form[data-held]").forEach((form) => hold(form, false)));

  document.addEventListener("htmx:beforeRequest", (event) => tooMuch(event.detail.elt.closest("form"), event));
  // An answer without the part that was asked for (signed out, an error) is a page of its own: let the browser fetch it.
  const whole = (asker) => (asker.matches("form") ? asker.submit() : location.reload());
  document.addEventListener("htmx:beforeSwap", (event) => {
    const asker = event.detail.requestConfig.elt, part = asker.getAttribute("hx-select");
    if (!part || new DOMParser().parseFromString(event.detail.serverResponse, "text/html").querySelector(part)) return;
    event.detail.shouldSwap = false;
    whole(asker);
  });
  document.addEventListener("htmx:sendError", (event) => {
    if (event.detail.requestConfig.elt.matches("form")) whole(event.detail.requestConfig.elt);
  });

  // The browser's own words for a file stand in the browser's language; the page has its own.
  function showFile(input) {
    const shown = input.parentElement.querySelector(".chosen");
    shown.textContent = [...input.files].map((file) => file.name).join(", ") || shown.dataset.none;
  }
  document.querySelectorAll(".file input").forEach((input) => {
    showFile(input);
    input.addEventListener("change", () => showFile(input));
  });

  // On a narrow screen the tabs of a job are one line that scrolls: the current one stands in it.
  const current = document.querySelector(".tabs [aria-current]"), tabs = current && current.closest("ul");
  if (tabs) tabs.scrollLeft = current.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - current.offsetWidth) / 2;

  document.querySelectorAll("[data-copy]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const field = $(button.dataset.copy);
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
      } catch {
        document.execCommand("copy"); // plain http in a plant's network has no clipboard interface
      }
      button.textContent = button.dataset.copied;
    });
  });
  document.querySelectorAll("[data-print]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => $(button.dataset.print).contentWindow.print());
  });
})();
