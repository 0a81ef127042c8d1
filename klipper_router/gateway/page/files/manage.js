// Adding, changing and removing printers and cameras. What is wrong with a value, the router says, in the words of
// `klipper-router check`.

import { api } from "./access.js";
import { confirmed, toast } from "./dialogs.js";

const byId = (id) => document.getElementById(id);

const PRINTER_OPTIONS = [
  ["sock", "Socket", "Klippy's API socket: the -a of klippy.py", "~/printer_data/comms/klippy.sock"],
  ["moonraker", "Moonraker", "Its address, or none where the router answers for it", "http://127.0.0.1:7125"],
  ["ui", "Interface", "mainsail or fluidd", ""],
  ["origin", "Own port", "host:port where this printer's interface is at /", "0.0.0.0:7181"],
  ["host", "Own host names", "", "printer.example.org"],
  ["on_connect", "On connect", "G-code, run at each connection", ""],
];
const CAMERA_OPTIONS = [
  ["url", "Address", "The MJPEG stream, or the WebRTC page", "http://127.0.0.1:8080/?action=stream"],
  ["snapshot_url", "Snapshot address", "If the stream is not to be used", ""],
  ["service", "Service", "In Moonraker's words, such as mjpegstreamer; empty: found out", ""],
];

export async function openManager() {
  try {
    await list();
    if (!byId("manager").open) byId("manager").showModal();
  } catch (error) {
    toast(error.message, true);
  }
}

byId("manager-close").onclick = () => byId("manager").close();
byId("editor-cancel").onclick = () => byId("editor").close();
byId("manager-add").onclick = () => edit({
  title: "Add a printer", options: PRINTER_OPTIONS, values: {}, named: true,
  save: (name, options) => api("printers", "POST", { name, options }),
});

async function list() {
  const { printers } = await api("printers");
  byId("manager-list").replaceChildren(...printers.map(printerRow));
}

const at = (...names) => names.map(encodeURIComponent).join("/");

function printerRow(printer) {
  const row = element("section", "managed");
  const path = `printers/${at(printer.name)}`;
  const buttons = element("div", "buttons");
  buttons.append(
    button("Change", `Change ${printer.name}`, () => edit({
      title: `Change ${printer.name}`, options: PRINTER_OPTIONS, values: printer.options,
      save: (_, options) => api(path, "PUT", { options }),
    })),
    button("Add a camera", `Add a camera of ${printer.name}`, () => addCamera(printer, {}, "")),
    button("Look for cameras", `Look for cameras of ${printer.name}`, (pressed) => discover(printer, path, pressed)),
    button("Remove", `Remove ${printer.name}`, () => remove(path, printer.name, "It goes from the router, with its cameras. Klipper itself is not touched.")),
  );
  row.append(heading(printer), code(printer.options.sock ?? ""), buttons);
  if (printer.cameras.length) {
    const cameras = element("ul");
    cameras.append(...printer.cameras.map(cameraRow));
    row.append(cameras);
  }
  return row;
}

function cameraRow(camera) {
  const row = element("li");
  const path = `printers/${at(camera.printer)}/cameras/${at(camera.name)}`;
  const title = `${camera.name} of ${camera.printer}`;
  const buttons = element("div", "buttons");
  buttons.append(
    button("Change", `Change camera ${title}`, () => edit({
      title: `Change ${title}`, options: CAMERA_OPTIONS, values: camera.options,
      save: (_, options) => api(path, "PUT", { options }),
    })),
    button("Remove", `Remove camera ${title}`, () => remove(path, title, "The camera itself is not touched.")),
  );
  row.append(heading(camera), code(camera.options.url ?? ""), buttons);
  return row;
}

function addCamera(printer, values, name) {
  edit({
    title: `Add a camera of ${printer.name}`, options: CAMERA_OPTIONS, values, named: true, name,
    save: (given, options) => api(`printers/${at(printer.name)}/cameras`, "POST", { name: given, options }),
  });
}

async function discover(printer, path, pressed) {
  pressed.disabled = true;
  try {
    const { found } = await api(`${path}/camera-discovery`, "POST", {});
    const known = new Set(printer.cameras.map((camera) => camera.options.url));
    const news = found.filter((camera) => !camera.shown && !known.has(camera.options.url));
    if (news.length) addCamera(printer, news[0].options, news[0].name);
    else toast(found.length ? `Shown already: ${found.map((camera) => camera.name).join(", ")}. No other camera answers.` : "No camera answers.");
  } catch (error) {
    toast(error.message, true);
  } finally {
    pressed.disabled = false;
  }
}

async function remove(path, title, text) {
  if (!(await confirmed({ title: `Remove ${title}?`, text, yes: "Remove", danger: true }))) return;
  try {
    await api(path, "DELETE");
    await list();
  } catch (error) {
    toast(error.message, true);
  }
}

/** A form of options; those that it does not know by name are kept as they are. */
function edit({ title, options, values, named, name = "", save }) {
  const others = Object.keys(values).filter((key) => !options.some(([known]) => known === key));
  const shown = [...options, ...others.map((key) => [key, key, "", ""])];
  const fields = new Map(shown.map(([key, label, hint, example]) => [key, field(key, label, hint, example, values[key] ?? "")]));
  const nameField = named && field("name", "Name", "", "", name);
  byId("editor-title").textContent = title;
  byId("editor-error").textContent = "";
  byId("editor-fields").replaceChildren(...(named ? [nameField.element] : []), ...[...fields.values()].map((each) => each.element));
  byId("editor-form").onsubmit = async (event) => {
    event.preventDefault();
    const given = [...fields].map(([key, each]) => [key, each.input.value.trim()]).filter(([, value]) => value);
    try {
      await save(named && nameField.input.value.trim(), Object.fromEntries(given));
      byId("editor").close();
      await list();
    } catch (error) {
      byId("editor-error").textContent = error.message;
      byId("editor-error").scrollIntoView({ block: "center" });
    }
  };
  byId("editor").showModal();
}

function field(key, label, hint, example, value) {
  const box = element("label", "field");
  const input = element(key === "on_connect" ? "textarea" : "input");
  input.value = value;
  input.placeholder = example;
  input.name = key;
  input.autocomplete = "off";
  input.spellcheck = false;
  input.autocapitalize = "off";
  box.append(label, input);
  if (hint) {
    const note = element("small");
    note.textContent = hint;
    box.append(note);
  }
  return { element: box, input };
}

function heading(of) {
  const title = element("h3");
  title.textContent = of.name;
  const source = element("small");
  source.textContent = of.source === "dashboard" ? "kept by this page" : "from the configuration";
  title.append(source);
  return title;
}

function element(tag, name = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  return made;
}

function code(text) {
  const made = element("code");
  made.textContent = text;
  return made;
}

function button(text, label, press) {
  const made = element("button", "quiet");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", label);
  made.onclick = () => press(made);
  return made;
}
