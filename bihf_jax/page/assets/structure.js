// The page of one protein: draws the sequence, the 3D view, the table and the downloads from the data block, and keeps
// them in step. Text of a file reaches the document as text only, never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const { residues, layers } = data;
  const numRows = residues.number.length; // a row is a residue of the sequence
  const rows = Array.from({ length: numRows }, (_, row) => row);
  const score = layers.find((layer) => layer.isScore) ?? null;
  const strips = layers.filter((layer) => layer.strip);
  const state = { layer: layers[data.firstLayer], threshold: data.threshold, hovered: null, selected: null };
  const NUM_TOP = 25;

  // ------------------------------------------------------------------------------------------------- small helpers

  const byId = (id) => document.getElementById(id);
  const themeColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => (value === null ? "none" : String(Number(value.toPrecision(Math.abs(value) >= 1000 ? 6 : 3))));

  // An element with properties, such as {className: "x", textContent: "y"}, and children.
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const chainName = (row) => data.chains[residues.chain[row]] || "(blank)";
  const numberOf = (row) => `${residues.number[row]}${residues.code[row]}`;
  const residueName = (row) => data.residueNames[residues.type[row]];
  const nameOf = (row) => `${residueName(row)} ${numberOf(row)}, chain ${chainName(row)}`;
  const isMarked = (row) => score !== null && score.values[row] !== null && score.values[row] >= state.threshold;

  // The value of a row as text, "0.25" or the name of a category.
  function valueText(layer, row) {
    const value = layer.values[row];
    return value !== null && layer.categories ? layer.categories[value] : shown(value);
  }

  // The values that texts about a residue give.
  const isTold = (layer) => layer.isScore || (layer.strip && (layer.shown || layer === state.layer));

  function describe(row) {
    const values = layers.filter(isTold);
    const parts = values.map((layer) => `${layer.name} ${valueText(layer, row)}`);
    if (!residues.resolved[row]) parts.push("no coordinates");
    return [nameOf(row), parts.join("; ")].filter(Boolean).join(": ");
  }

  // ------------------------------------------------------------------------------------------------------- colours

  // Colour of a value on the scale of a layer; null where there is none.
  function colourOfValue(layer, value) {
    if (value === null) return null;
    if (layer.categories) return layer.colours[value];
    const place = Math.min(1, Math.max(0, (value - layer.low) / (layer.high - layer.low)));
    return data.palette[Math.round(place * (data.palette.length - 1))];
  }

  const colourOf = (row) => colourOfValue(state.layer, state.layer.values[row]);

  // Black or white, whichever is read better on "#rrggbb" (relative luminance of WCAG 2).
  function textColourOn(colour) {
    const [red, green, blue] = [1, 3, 5].map((start) => {
      const part = parseInt(colour.slice(start, start + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
  }

  function swatch(colour, text, className = "") {
    const box = make("span", { className: `swatch ${className}` });
    if (colour) box.style.backgroundColor = colour;
    return make("span", {}, box, text);
  }

  function drawLegend() {
    const layer = state.layer;
    const parts = [];
    if (layer.categories) {
      const names = layer.categories.map((name, index) => swatch(layer.colours[index], name));
      parts.push(make("div", { className: "swatches" }, ...names));
    } else {
      const scale = make("div", { className: "scale" });
      scale.style.background = `linear-gradient(to right, ${data.palette.join(", ")})`;
      if (layer.isScore) {
        const place = (state.threshold - layer.low) / (layer.high - layer.low);
        const tick = make("span", { className: "tick", title: `threshold ${shown(state.threshold)}` });
        tick.style.left = `${100 * Math.min(1, Math.max(0, place))}%`;
        scale.append(tick);
      }
      const name = layer.description ? `${layer.name} (${layer.description})` : layer.name;
      const ends = [shown(layer.low), name, shown(layer.high)].map((text) => make("span", { textContent: text }));
      parts.push(make("div", { className: "ends" }, ...ends), scale);
    }
    const others = [];
    if (layer.values.includes(null)) others.push(swatch(themeColour("--empty"), `no ${layer.name}`));
    if (residues.resolved.includes(0)) others.push(hatchedSwatch());
    if (others.length) parts.push(make("p", { className: "swatches" }, ...others));
    byId("legend").replaceChildren(...parts);
  }

  function hatchedSwatch() {
    const letter = make("span", { className: "letter", textContent: "x" });
    const box = make("span", { className: "swatch residue-swatch unresolved" }, letter);
    letter.style.backgroundColor = themeColour("--empty");
    return make("span", {}, box, "no coordinates");
  }

  // ------------------------------------------------------------------------------------------------------ sequence

  const cells = []; // element of each row

  function drawSequence() {
    for (const [chain, id] of data.chains.entries()) {
      const members = rows.filter((row) => residues.chain[row] === chain);
      const missing = members.filter((row) => !residues.resolved[row]).length;
      const facts = `${members.length} residues` + (missing ? `, ${missing} without coordinates` : "");
      const name = `Chain ${id || "(blank)"}`;
      const title = make("h3", { textContent: `${name} ` }, make("small", { textContent: facts }));
      const track = make("div", { className: "track", tabIndex: 0 }, ...blocksOf(members));
      track.setAttribute("role", "listbox");
      track.setAttribute("aria-label", `Residues of chain ${id || "(blank)"}: arrow keys move, Enter chooses`);
      listenToTrack(track, members);
      byId("sequence").append(title, track);
    }
  }

  // A box for each track that shows or hides it, with the line that says what it is.
  function setUpTracks() {
    byId("tracks-control").hidden = strips.length === 0;
    for (const layer of strips) {
      const box = make("input", { type: "checkbox", checked: layer.shown });
      box.addEventListener("change", () => {
        layer.shown = box.checked;
        for (const row of rows) cells[row].querySelectorAll(".strip")[strips.indexOf(layer)].hidden = !layer.shown;
        paintSequence();
        drawTable();
        showReadout();
      });
      const text = make("small", { textContent: layer.description ? ` ${layer.description}` : "" });
      byId("tracks").append(make("li", {}, make("label", {}, box, ` ${layer.name}`), text));
    }
  }

  // Ten residues a block; a new one begins where the numbering jumps.
  function blocksOf(members) {
    const parts = [];
    let block = null;
    for (const [index, row] of members.entries()) {
      const jump = index > 0 ? jumpBetween(members[index - 1], row) : null;
      if (jump) parts.push(jump);
      if (block === null || jump || block.childElementCount === 10) {
        block = make("span", { className: "cells" });
        const ruler = make("span", { className: "ruler", textContent: numberOf(row) });
        ruler.setAttribute("aria-hidden", "true");
        const frame = make("span", { className: "block" }, ruler, block);
        frame.setAttribute("role", "presentation");
        parts.push(frame);
      }
      block.append(cellOf(row));
    }
    return parts;
  }

  // A sign where the numbers of two neighbours leave some out or go back; null where they follow each other.
  function jumpBetween(before, after) {
    const step = residues.number[after] - residues.number[before];
    if (step === 0 || step === 1) return null;
    const text = step > 1 ? `… ${step - 1} …` : "…";
    const title = `the numbering goes from ${numberOf(before)} to ${numberOf(after)}`;
    const jump = make("span", { className: "jump", textContent: text, title });
    jump.setAttribute("aria-hidden", "true");
    return jump;
  }

  function cellOf(row) {
    const letter = make("span", { className: "letter", textContent: residues.type[row] });
    const cell = make("span", { className: "residue", id: `residue-${row}` }, letter);
    cell.dataset.row = row;
    cell.classList.toggle("unresolved", !residues.resolved[row]);
    cell.setAttribute("role", "option");
    cell.setAttribute("aria-selected", "false");
    for (const layer of strips) {
      const strip = make("span", { className: "strip", hidden: !layer.shown });
      strip.style.backgroundColor = colourOfValue(layer, layer.values[row]) ?? "transparent";
      cell.append(strip);
    }
    cells[row] = cell;
    return cell;
  }

  function listenToTrack(track, members) {
    let at = 0; // the keyboard's place in `members`
    const rowOf = (event) => {
      const cell = event.target.closest(".residue");
      return cell === null ? null : Number(cell.dataset.row);
    };
    const moveTo = (place) => {
      at = Math.min(members.length - 1, Math.max(0, place));
      hover(members[at]);
      track.setAttribute("aria-activedescendant", cells[members[at]].id);
      cells[members[at]].scrollIntoView({ block: "nearest" });
    };
    track.addEventListener("mouseover", (event) => hover(rowOf(event)));
    track.addEventListener("mouseleave", () => hover(null));
    track.addEventListener("click", (event) => {
      const row = rowOf(event);
      if (row === null) return;
      at = members.indexOf(row);
      select(row);
    });
    // Not when a click gives the focus: scrolling then would put another residue under the pointer.
    track.addEventListener("focus", () => track.matches(":focus-visible") && moveTo(at));
    track.addEventListener("blur", () => {
      hover(null);
      track.removeAttribute("aria-activedescendant");
    });
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, End: numRows, Home: -numRows };
    track.addEventListener("keydown", (event) => {
      if (event.key in steps) {
        moveTo(at + steps[event.key]);
      } else if (event.key === "Enter" || event.key === " ") {
        select(members[at]);
      } else if (event.key === "Escape") {
        select(null);
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  function paintSequence() {
    const empty = themeColour("--empty");
    for (const row of rows) {
      const colour = colourOf(row) ?? empty;
      const letter = cells[row].firstElementChild;
      letter.style.backgroundColor = colour;
      letter.style.color = textColourOn(colour);
      cells[row].setAttribute("aria-label", describe(row));
    }
  }

  // ------------------------------------------------------------------------------------------------------ threshold

  function setUpThreshold() {
    if (score === null) {
      byId("threshold-panel").hidden = true;
      byId("marks-control").hidden = true;
      return;
    }
    const slider = byId("threshold");
    const [low, high] = [Math.min(score.low, state.threshold), Math.max(score.high, state.threshold)];
    // About 200 steps of a round size: 0.005 for scores from 0 to 1.
    const rough = (high - low) / 200;
    const unit = 10 ** Math.floor(Math.log10(rough));
    slider.step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough * (1 - 1e-9));
    slider.min = Math.floor(low / slider.step) * slider.step;
    slider.max = Math.ceil(high / slider.step) * slider.step;
    slider.value = state.threshold;
    slider.addEventListener("input", () => {
      state.threshold = Number(slider.value);
      mark();
    });
  }

  function mark() {
    if (score === null) return;
    const marked = rows.filter(isMarked);
    for (const row of rows) cells[row].classList.toggle("marked", isMarked(row));
    const text = `${score.name} ${shown(state.threshold)} or more`;
    const meaning = data.labelNames ? ` (${data.labelNames[1]})` : "";
    byId("threshold-value").textContent = shown(state.threshold);
    byId("threshold").setAttribute("aria-valuetext", text);
    byId("marked-count").textContent = `${marked.length} of ${numRows} residues are marked: ${text}${meaning}.`;
    drawLegend();
    view?.paintSoon();
  }

  // ----------------------------------------------------------------------------------------------- table, downloads

  const topRows = new Map(); // row -> line of the table

  function drawTable() {
    byId("top-panel").hidden = score === null;
    if (score === null) return;
    const ranked = rows.filter((row) => score.values[row] !== null);
    ranked.sort((a, b) => score.values[b] - score.values[a] || a - b);
    const top = ranked.slice(0, NUM_TOP);
    byId("top-title").textContent = `The ${top.length} residues of highest ${score.name}`;
    const told = strips.filter((layer) => layer.shown);
    const heads = ["", "chain", "residue", score.name, ...told.map((layer) => layer.name)];
    const head = make("tr", {}, ...heads.map((textContent) => make("th", { scope: "col", textContent })));
    const body = make("tbody");
    top.forEach((row, index) => {
      const button = make("button", { type: "button", textContent: `${residueName(row)} ${numberOf(row)}` });
      button.addEventListener("click", () => select(row));
      button.addEventListener("focus", () => hover(row));
      button.addEventListener("blur", () => hover(null));
      const texts = [String(index + 1), chainName(row), button];
      texts.push(valueText(score, row), ...told.map((layer) => valueText(layer, row)));
      const line = make("tr", {}, ...texts.map((content) => make("td", {}, content)));
      line.addEventListener("mouseenter", () => hover(row));
      line.addEventListener("mouseleave", () => hover(null));
      line.classList.toggle("selected", row === state.selected);
      topRows.set(row, line);
      body.append(line);
    });
    byId("top").replaceChildren(make("thead", {}, head), body);
  }

  // A cell of a CSV file. A spreadsheet runs text that begins with one of these as a formula: it gets an apostrophe.
  function csvCell(value) {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r']/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csvText() {
    const columns = layers.filter((layer) => layer.isScore || layer.strip);
    const lines = [data.csvColumns];
    for (const row of rows) {
      const values = columns.map((layer) => {
        const value = layer.values[row];
        return value !== null && layer.categories ? layer.categories[value] : value;
      });
      const id = [data.chains[residues.chain[row]], residues.number[row], residues.code[row], residues.type[row]];
      lines.push([...id, ...values]);
    }
    return lines.map((line) => line.map(csvCell).join(",") + "\n").join("");
  }

  function save(name, blob) {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function addDownload(text, action) {
    const button = make("button", { type: "button", textContent: text });
    button.addEventListener("click", action);
    byId("downloads").append(button);
  }

  function setUpDownloads() {
    const { stem, format, ending, text } = data.download;
    addDownload("CSV of the residues", () => {
      save(`${stem}.csv`, new Blob([csvText()], { type: "text/csv;charset=utf-8" }));
    });
    addDownload(score ? `${format}, ${score.name} as B factor` : format, () => {
      save(stem + ending, new Blob([text], { type: `chemical/x-${format.toLowerCase()}` }));
    });
    if (view) addDownload("PNG of the 3D view", () => view.canvas().toBlob((blob) => save(`${stem}.png`, blob)));
  }

  // ------------------------------------------------------------------------------------------------------- 3D view

  // The 3D view, or null and a message in its place where there can be none.
  function makeView() {
    try {
      return drawView();
    } catch (error) {
      byId("scene-message").textContent =
        `There is no 3D view here: this browser does not offer WebGL, which draws it (${error.message}). ` +
        "Switch on graphics (hardware) acceleration in the settings of the browser, or open the page in another one. " +
        "The sequence, the table and the downloads work without it.";
      byId("scene-message").hidden = false;
      return null;
    }
  }

  function drawView() {
    // Asked here because 3Dmol.js only logs that there is none, and goes on.
    const trial = document.createElement("canvas");
    if (!["webgl2", "webgl"].some((name) => trial.getContext(name))) throw new Error("it gives no WebGL context");
    const { text, rowOfPlace, labels } = data.scene;
    const viewer = $3Dmol.createViewer(byId("scene"), { backgroundColor: themeColour("--scene"), hoverDuration: 40 });
    viewer.setViewStyle({ style: "outline", width: 0.02, color: "#000000" });
    const model = viewer.addModel(text, "cif");
    const atoms = model.selectedAtoms({});
    // The scene numbers its residues: what 3Dmol.js takes for the residue number is the place.
    const rowOfAtom = (atom) => (rowOfPlace[atom.resi] >= 0 ? rowOfPlace[atom.resi] : null);
    const centres = centresOf(atoms, rowOfAtom);
    const pointers = { hovered: null, selected: null };
    let label = null;
    let waiting = false;

    // Chains of CA atoms alone have no ribbon.
    const inProtein = atoms.filter((atom) => !atom.hetflag);
    const count = (name) => inProtein.filter((atom) => atom.atom === name).length;
    const cartoon = count("O") * 2 < count("CA") ? { style: "trace", thickness: 0.5 } : { gapcutoff: 1000 };

    function paint() {
      waiting = false;
      const empty = themeColour("--empty");
      const colorfunc = (atom) => {
        const row = rowOfAtom(atom);
        return (row === null ? null : colourOf(row)) ?? empty;
      };
      model.setStyle({ hetflag: false }, { cartoon: { ...cartoon, colorfunc } });
      model.setStyle({ hetflag: true }, { stick: { radius: 0.15 }, sphere: { scale: 0.25 } });
      const marks = byId("marks").value === "stick" ? { stick: { radius: 0.25, colorfunc } } : { sphere: { colorfunc } };
      const predicate = (atom) => !atom.hetflag && rowOfAtom(atom) !== null && isMarked(rowOfAtom(atom));
      model.setStyle({ predicate }, marks, true);
      viewer.render();
    }

    function paintSoon() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(paint);
    }

    // A transparent ball on a residue; null takes it away.
    function point(kind, row) {
      if (pointers[kind]) viewer.removeShape(pointers[kind]);
      const center = row === null ? null : centres.get(row);
      const [radius, opacity] = kind === "selected" ? [2.2, 0.45] : [2.6, 0.35];
      pointers[kind] = center ? viewer.addSphere({ center, radius, color: themeColour("--accent"), opacity }) : null;
      if (kind === "selected") {
        if (label) viewer.removeLabel(label);
        const style = { fontSize: 14, fontColor: "white", backgroundColor: "black", backgroundOpacity: 0.75 };
        label = center ? viewer.addLabel(nameOf(row), { position: center, inFront: true, ...style }) : null;
      }
      viewer.render();
    }

    function showAll() {
      viewer.zoomTo();
      viewer.zoom(1.2); // it leaves a wide margin
    }

    function setBackground() {
      viewer.setBackgroundColor(themeColour("--scene"));
      paintSoon();
    }

    const onHover = (atom) => {
      if (rowOfAtom(atom) !== null) hover(rowOfAtom(atom));
      else byId("readout").textContent = labels[atom.resi];
    };
    viewer.setHoverable({}, true, onHover, () => hover(null));
    viewer.setClickable({}, true, (atom) => select(rowOfAtom(atom)));
    byId("reset").addEventListener("click", showAll);
    byId("marks").addEventListener("change", paintSoon);
    paint();
    showAll();
    const canvas = () => viewer.getCanvas();
    return { viewer, atoms, centres, pointers, rowOfAtom, paintSoon, point, setBackground, canvas };
  }

  // Row -> its CA atom, or the middle of its atoms.
  function centresOf(atoms, rowOfAtom) {
    const sums = new Map();
    for (const atom of atoms) {
      const row = rowOfAtom(atom);
      if (row === null) continue;
      const sum = sums.get(row) ?? { x: 0, y: 0, z: 0, n: 0 };
      if (sum.n === Infinity) continue;
      if (atom.atom === "CA") sums.set(row, { x: atom.x, y: atom.y, z: atom.z, n: Infinity });
      else sums.set(row, { x: sum.x + atom.x, y: sum.y + atom.y, z: sum.z + atom.z, n: sum.n + 1 });
    }
    const centre = ({ x, y, z, n }) => (n === Infinity ? { x, y, z } : { x: x / n, y: y / n, z: z / n });
    return new Map([...sums].map(([row, sum]) => [row, centre(sum)]));
  }

  // ------------------------------------------------------------------------------------------------ links both ways

  function setClass(name, row, on) {
    if (row === null) return;
    cells[row].classList.toggle(name, on);
    topRows.get(row)?.classList.toggle(name, on);
  }

  function showReadout() {
    const row = state.hovered ?? state.selected;
    byId("readout").textContent = row === null ? "Point at a residue, or choose one." : describe(row);
  }

  // The residue under the pointer, or at the keyboard's place, everywhere; null for none.
  function hover(row) {
    if (row !== state.hovered) {
      setClass("hovered", state.hovered, false);
      state.hovered = row;
      setClass("hovered", row, true);
      view?.point("hovered", row);
    }
    showReadout();
  }

  // The chosen residue: stays until another one is, or the same one again.
  function select(row) {
    const next = row === state.selected ? null : row;
    for (const [old, on] of [[state.selected, false], [next, true]]) {
      setClass("selected", old, on);
      if (old !== null) cells[old].setAttribute("aria-selected", String(on));
    }
    state.selected = next;
    view?.point("selected", next);
    if (next !== null) cells[next].scrollIntoView({ block: "nearest" });
    showReadout();
  }

  // ----------------------------------------------------------------------------------------------------------- start

  function setUpLayers() {
    const choice = byId("layer");
    choice.append(...layers.map((layer, index) => make("option", { value: index, textContent: layer.name })));
    choice.addEventListener("change", () => {
      state.layer = layers[Number(choice.value)];
      paintSequence();
      showReadout();
      drawLegend();
      view?.paintSoon();
    });
    choice.value = String(data.firstLayer);
  }

  let view = null;
  setUpLayers();
  drawSequence();
  setUpTracks();
  setUpThreshold();
  drawTable();
  paintSequence();
  drawLegend();
  mark();
  view = makeView();
  if (view === null) byId("reset").hidden = true;
  setUpDownloads();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    paintSequence();
    drawLegend();
    view?.setBackground();
  });
  window.structurePage = { data, state, view, hover, select, colourOf, isMarked, csvText }; // for scripts and tests
})();
