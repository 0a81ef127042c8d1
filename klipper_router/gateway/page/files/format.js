// Values as people read them. Pure.

export function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return "under 1 min";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const clockForm = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const secondForm = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const dayForm = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });

export function clock(time_s) {
  const date = new Date(time_s * 1000);
  return (date.toDateString() === new Date().toDateString() ? clockForm : dayForm).format(date);
}

export function toTheSecond(time_s) {
  return secondForm.format(new Date(time_s * 1000));
}

export function degrees(value) {
  return typeof value === "number" ? value.toFixed(value >= 99.95 ? 0 : 1) : "–";
}

/** "temperature_sensor mcu" → "mcu"; "heater_bed" → "bed". */
export function sensorName(object) {
  if (object === "heater_bed") return "bed";
  const space = object.indexOf(" ");
  return space < 0 ? object : object.slice(space + 1);
}

const SENSOR_ORDER = ["extruder", "heater_bed", "heater_generic", "temperature_fan"];

/** Hotends first, then the bed, other heaters, fans, and mere sensors by name. */
export function bySensorOrder(a, b) {
  const rank = (name) => {
    const at = SENSOR_ORDER.findIndex((start) => name.startsWith(start));
    return at < 0 ? SENSOR_ORDER.length : at;
  };
  return rank(a) - rank(b) || a.localeCompare(b, undefined, { numeric: true });
}

/** Seconds left, or null while it is too early to tell. The slicer's own progress (M73) where the file has it. */
export function secondsLeft(progress, printed_s) {
  if (!(progress > 0.005) || !(printed_s > 20)) return null;
  return (printed_s * (1 - progress)) / progress;
}

/** What a card says of its printer: a word, and how it is to be taken. */
export function condition(card) {
  const of = (word, tone) => ({ word, tone });
  switch (card.state) {
    case "disconnected": return of("Disconnected", "off");
    case "startup": return of("Starting", "wait");
    case "shutdown": return of("Shutdown", "bad");
    case "error": return of("Error", "bad");
    case "ready": break;
    default: return of(card.state, "off");
  }
  switch (card.status.print_stats?.state) {
    case "printing": return of("Printing", "busy");
    case "paused": return of("Paused", "wait");
    case "complete": return of("Complete", "good");
    case "cancelled": return of("Cancelled", "off");
    case "error": return of("Print failed", "bad");
    case "standby": return of("Standby", "good");
    default: return of("Ready", "good");
  }
}

export function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}
