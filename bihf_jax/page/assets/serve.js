"use strict";
// The form: a structure goes to the server as it is, which answers with its chains, then with the page of the scores.
(() => {
  const settings = JSON.parse(document.getElementById("serve-data").textContent);
  const element = (id) => document.getElementById(id);
  let chosen = null; // {name, body} of the structure
  let requests = 0; // begun; the answer to an earlier one than the last is not shown

  function say(message, isError = false) {
    element("status").textContent = message;
    element("status").className = isError ? "error" : "";
  }

  async function ask(path, parameters, body) {
    const response = await fetch(`${path}?${new URLSearchParams(parameters)}`, {
      method: "POST",
      headers: { "Content-Type": settings.bodyType },
      body,
    });
    const answer = await response.json().catch(() => ({ error: `the server answered with status ${response.status}` }));
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }

  async function attempt(message, work) {
    const request = ++requests;
    say(message);
    element("predict").disabled = true;
    try {
      await work(() => request === requests);
    } catch (error) {
      if (request === requests) say(error.message, true);
    } finally {
      if (request === requests) element("predict").disabled = false;
    }
  }

  function choose(name, body, size) {
    chosen = null;
    element("chosen").hidden = true;
    element("chains").replaceChildren();
    if (size > settings.maxBytes) {
      requests++;
      say(`${name}: larger than ${settings.maxBytes / 1e6} MB; compress it, or cut it down`, true);
      return;
    }
    attempt("Reading …", async (isLast) => {
      const answer = await ask("/chains", [["name", name]], body);
      if (!isLast()) return;
      chosen = { name, body };
      showChains(name, answer.chains);
      showLigands(answer.ligands);
      say("");
    });
  }

  function showChains(name, chains) {
    element("name").textContent = name || "pasted text";
    element("chains").replaceChildren(
      ...chains.map(([id, residues]) => {
        const label = document.createElement("label");
        const box = document.createElement("input");
        Object.assign(box, { type: "checkbox", value: id, checked: true });
        label.append(box, ` ${id || "(blank)"}: ${residues} residues`);
        return label;
      }),
    );
    element("chosen").hidden = false;
    element("predict").focus();
  }

  function showLigands(ligands) {
    if (!settings.needsLigand) return;
    element("ligand").replaceChildren(...ligands.map((name) => new Option(name)));
    element("ligands").hidden = false;
    if (!ligands.length) throw new Error("The model needs a ligand, and this structure has none beside its ions.");
  }

  function chooseFile(file) {
    if (file) choose(file.name, file, file.size);
  }

  element("file").addEventListener("change", (event) => chooseFile(event.target.files[0]));
  element("use-text").addEventListener("click", () => {
    const text = element("text").value;
    choose("", text, new Blob([text]).size);
  });

  // A file that is dropped beside the field would be opened by the browser instead.
  for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());
  element("drop").addEventListener("dragover", () => element("drop").classList.add("over"));
  element("drop").addEventListener("dragleave", () => element("drop").classList.remove("over"));
  element("drop").addEventListener("drop", (event) => {
    element("drop").classList.remove("over");
    chooseFile(event.dataTransfer.files[0]);
  });

  element("predict").addEventListener("click", () => {
    const boxes = [...document.querySelectorAll("#chains input")];
    const marked = boxes.filter((box) => box.checked);
    if (!chosen || !marked.length) {
      say("Mark at least one chain.", true);
      return;
    }
    // All chains: none is named, so that ligands that belong to no chain are read too.
    const chains = marked.length === boxes.length ? [] : marked.map((box) => ["chain", box.value]);
    const ligand = settings.needsLigand ? [["ligand", element("ligand").value]] : [];
    attempt("Predicting … the first structure of a length takes longer.", async () => {
      const answer = await ask("/predict", [["name", chosen.name], ...chains, ...ligand], chosen.body);
      say("");
      window.location.assign(answer.page);
    });
  });
})();
