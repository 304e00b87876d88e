// Which camera a page asks for: decided from its constraints alone. Nothing here touches a device.

const SCREENS = ["browser", "desktop", "screen", "system", "tab", "window", "application"];

// `video` is what the page wants (true or an object), `id` our camera's, `real` the ids that the page knows of real
// cameras. Returns {camera: "ours"}, {camera: "theirs", real} (the browser does it; `real`: the real face is shown though
// we are on), or {camera: "none", constraint} where nothing fits.
//
// Theirs only by name: whoever says no camera, or one that is not there any more, gets ours. A page that did not choose
// must not end up with the real face.
export function choose(video, { on, hide, id, group }, real) {
  if (!on || isScreen(video)) return { camera: "theirs", real: false };
  const wanted = video === true ? {} : video;
  const legacy = { ...wanted.mandatory, ...Object.assign({}, ...list(wanted.optional)) };
  for (const [name, own] of [["deviceId", id], ["groupId", group]]) {
    const exact = [...list(wanted[name]?.exact), ...(name === "deviceId" ? list(wanted.mandatory?.sourceId) : [])];
    if (exact.length === 0) continue;
    if (exact.includes(own)) return facing(wanted);
    return hide ? { camera: "none", constraint: name } : { camera: "theirs", real: true };
  }
  const ideal = [...ideals(wanted.deviceId), ...ideals(wanted.groupId), ...list(legacy.sourceId)];
  for (const set of list(wanted.advanced)) ideal.push(...list(set.deviceId?.exact ?? set.deviceId?.ideal ?? set.deviceId));
  const named = ideal.find((one) => one === id || one === group || real.includes(one));
  if (named !== undefined && named !== id && named !== group && !hide) return { camera: "theirs", real: true };
  return facing(wanted);
}

// What is left for the real camera behind ours once the names are taken out: sizes and rates.
export function sizesOf(video) {
  if (video === true) return true;
  const { deviceId, groupId, facingMode, advanced, mandatory, optional, ...rest } = video;
  const sets = list(advanced).map(({ deviceId, groupId, facingMode, ...set }) => set);
  const legacy = old({ ...Object.assign({}, ...list(optional)) }, "ideal", old({ ...mandatory }, "limit", {}));
  return { ...legacy, ...rest, ...(sets.length > 0 && { advanced: sets }) };
}

function facing(wanted) {
  const exact = list(wanted.facingMode?.exact);
  if (exact.length > 0 && !exact.includes("user")) return { camera: "none", constraint: "facingMode" };
  return { camera: "ours" };
}

// Of sound too: what a program or tab shows or says is no camera and no microphone.
export function isScreen(video) {
  const source = video.mandatory?.chromeMediaSource ?? video.mediaSource?.exact ?? video.mediaSource;
  return SCREENS.includes(source);
}

// A bare value means ideal; [] where it is left out.
function ideals(value) {
  if (value === undefined || value === null) return [];
  return typeof value === "object" && !Array.isArray(value) ? list(value.ideal) : list(value);
}

export function list(value) {
  if (value === undefined || value === null || value === "") return []; // "": no camera has that name
  return Array.isArray(value) ? value.filter((one) => one !== "") : [value];
}

// {minWidth: 640, maxFrameRate: 30} of old pages as it is said today.
function old(set, kind, into) {
  for (const [key, value] of Object.entries(set)) {
    const found = /^(min|max)(Width|Height|FrameRate|AspectRatio)$/.exec(key);
    if (!found) continue;
    const name = found[2][0].toLowerCase() + found[2].slice(1);
    into[name] ??= {};
    into[name][kind === "ideal" ? "ideal" : found[1]] ??= value;
  }
  return into;
}
