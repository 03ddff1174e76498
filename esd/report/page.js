"use strict";
// Draws the figures of the page with Plotly, in the light or the dark palette, and makes their controls work.
(() => {
  // Okabe and Ito's colors, which people with color blindness tell apart, made readable on both backgrounds
  const PALETTES = {
    light: {
      groups: ["#0b62b0", "#c2500a", "#007d5a", "#a8478a", "#8a6d00", "#4a4fb8", "#b3123f", "#3b6e75"],
      gray: "#8a949e", text: "#1b1f24", soft: "#57606a", grid: "#e3e7ec", paper: "#ffffff",
      diverging: [[0, "#8c1d04"], [0.25, "#e58a5c"], [0.5, "#f7f7f7"], [0.75, "#6fa9d8"], [1, "#08457e"]],
    },
    dark: {
      groups: ["#6db3f2", "#f2994f", "#3fc79a", "#e08fc4", "#d9bd4a", "#a3a7f7", "#ff7d9c", "#84c3cb"],
      gray: "#7c8793", text: "#e6eaef", soft: "#a3adb8", grid: "#2b333d", paper: "#12161b",
      diverging: [[0, "#ffb38a"], [0.25, "#c25a24"], [0.5, "#161b21"], [0.75, "#2f7dbd"], [1, "#a5d4ff"]],
    },
  };
  const BUTTONS = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"];
  const NARROW = 600; // pixels, below which panels stand below each other
  const BAR = 34; // pixels
  const FRAME_MS = 140;
  const PRINTED_WIDTH = 680;
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const status = document.getElementById("status");
  const button = document.getElementById("theme");
  let Plotly = null;
  let printing = false;

  const shade = () => (printing ? "light" : root.dataset.shade || (dark.matches ? "dark" : "light"));
  const palette = () => PALETTES[shade()];
  const colorOf = (number) =>
    number === null || number === undefined ? palette().gray : palette().groups[number % palette().groups.length];

  function bytesOf(base64) {
    const letters = atob(base64);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i); // 20 times as fast as Uint8Array.from
    return bytes;
  }

  function transparent(color, alpha) {
    const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    return `rgba(${parts.join(",")},${alpha})`;
  }

  const figures = [...document.querySelectorAll("figure[id]")].map((element) => ({
    element,
    plot: element.querySelector(".plot"),
    data: JSON.parse(element.querySelector('script[type="application/json"]').textContent),
    hidden: new Set(),
    step: 0,
    drawn: false,
  }));

  // -- one figure

  function view(figure) {
    const selects = [...figure.element.querySelectorAll("select[data-choice]")];
    const chosen = selects.map((select) => select.value).join("|");
    return figure.data.views[chosen] || Object.values(figure.data.views)[0]; // of one option there is no select
  }

  function traces(figure) {
    const frames = figure.data.frames;
    return view(figure).data.map((trace, index) => {
      const own = { ...trace, showlegend: false };
      const color = colorOf(trace.meta && trace.meta.color);
      if (trace.meta && trace.meta.diverging) {
        own.colorscale = palette().diverging;
        own.colorbar = { ...trace.colorbar, tickfont: { color: palette().soft } };
      } else {
        if (trace.line) own.line = { ...trace.line, color };
        if (trace.marker || trace.type === "bar") own.marker = { ...trace.marker, color };
        if (trace.error_x) own.error_x = { ...trace.error_x, color };
        if (trace.fill) own.fillcolor = transparent(color, trace.meta.fill || 0.2);
      }
      if (trace.legendgroup && figure.hidden.has(trace.legendgroup)) own.visible = false;
      if (frames) own.z = frame(figure, index);
      return own;
    });
  }

  function layout(figure, width) {
    const wanted = view(figure).layout;
    const colors = palette();
    const bar = width < NARROW || printing ? 0 : BAR; // room for the buttons above the plot
    const own = {
      ...wanted,
      font: { family: getComputedStyle(document.body).fontFamily, size: width < NARROW ? 11 : 12.5, color: colors.text },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 14, t: bar || 8, b: 46 },
      hoverlabel: { bgcolor: colors.paper, bordercolor: colors.grid, font: { color: colors.text } },
      hoverdistance: wanted.hovermode === "x unified" ? -1 : 20, // the nearest point, however far it is
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colors.gray, activecolor: colors.text },
      height: figure.data.height + bar,
      width,
      autosize: false,
      dragmode: width < NARROW ? false : "zoom",
    };
    delete own.meta;
    const panels = wanted.meta ? wanted.meta.panels : 1;
    if (panels > 1) {
      const columns = width < NARROW ? Math.min(2, panels) : panels;
      const heat = Boolean(figure.data.frames);
      const across = heat && width < NARROW ? 1 : columns;
      const rows = Math.ceil(panels / across);
      own.grid = { rows, columns: across, pattern: "independent", xgap: heat ? 0.28 : 0.25, ygap: 0.38 };
      own.height = figure.data.height * (heat && width < NARROW ? 0.8 : 1) * rows + bar;
    }
    for (const name of new Set([...Object.keys(wanted).filter((key) => /^[xy]axis/.test(key)), "xaxis", "yaxis"])) {
      own[name] = {
        ...(wanted[name] || {}),
        gridcolor: colors.grid,
        zerolinecolor: colors.grid,
        linecolor: colors.grid,
        tickfont: { color: colors.soft },
        fixedrange: width < NARROW,
        automargin: true,
      };
      if (panels > 1) own[name].tickangle = 0;
      if (own[name].title) own[name].title = { ...own[name].title, font: { color: colors.soft }, standoff: 8 };
    }
    return own;
  }

  function draw(figure) {
    const inside = figure.element.clientWidth;
    if (!inside && !printing) return; // in a part that is closed
    const style = getComputedStyle(figure.element);
    const width = printing
      ? PRINTED_WIDTH
      : inside - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const config = {
      displaylogo: false,
      displayModeBar: width < NARROW ? false : "hover",
      modeBarButtons: [BUTTONS], // named one by one: Plotly's own choice has one that sends the data elsewhere
      plotlyServerURL: "",
    };
    const shown = layout(figure, width);
    figure.plot.style.minHeight = `${shown.height}px`;
    Plotly.react(figure.plot, traces(figure), shown, config);
    figure.drawn = true;
    figure.element.dataset.shade = shade();
  }

  function keys(figure) {
    const place = figure.element.querySelector(".keys");
    if (figure.data.keys.length < 2) {
      return;
    }
    for (const key of figure.data.keys) {
      const toggle = document.createElement("button");
      toggle.type = "button";
      toggle.setAttribute("aria-pressed", "true");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.borderTopStyle = { solid: "solid", dash: "dashed", longdash: "dashed" }[key.dash] || "dotted";
      swatch.dataset.color = key.color === null ? "" : key.color;
      toggle.append(swatch, document.createTextNode(key.label));
      toggle.addEventListener("click", () => {
        if (!figure.hidden.delete(key.group)) figure.hidden.add(key.group);
        toggle.setAttribute("aria-pressed", String(!figure.hidden.has(key.group)));
        draw(figure);
      });
      place.append(toggle);
    }
  }

  function colorSwatches() {
    for (const swatch of document.querySelectorAll(".swatch")) {
      swatch.style.borderTopColor = colorOf(swatch.dataset.color === "" ? null : Number(swatch.dataset.color));
    }
  }

  // -- weights through an episode

  function frame(figure, index) {
    const layer = figure.data.frames.layers[index];
    if (!layer.values) {
      layer.values = new Int8Array(bytesOf(layer.bytes).buffer);
      delete layer.bytes;
    }
    const size = layer.rows * layer.columns;
    const start = figure.step * size;
    return Array.from({ length: layer.rows }, (_, row) =>
      Array.from(layer.values.subarray(start + row * layer.columns, start + (row + 1) * layer.columns),
        (value) => (value / 127) * layer.largest));
  }

  function player(figure) {
    const slider = figure.element.querySelector(".player input");
    const play = figure.element.querySelector(".play");
    const output = figure.element.querySelector(".player output");
    const steps = figure.data.frames.steps;
    let timer = 0;
    const show = (step) => {
      figure.step = step;
      slider.value = step;
      slider.setAttribute("aria-valuetext", `step ${steps[step]}`);
      output.textContent = steps[step];
      if (figure.drawn) Plotly.restyle(figure.plot, { z: figure.data.frames.layers.map((_, i) => frame(figure, i)) });
    };
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
    };
    slider.addEventListener("input", () => {
      stop();
      show(Number(slider.value));
    });
    play.addEventListener("click", () => {
      if (timer) return stop();
      if (figure.step === steps.length - 1) show(0);
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      timer = setInterval(() => {
        if (figure.step >= steps.length - 1) stop();
        else show(figure.step + 1);
      }, still.matches ? FRAME_MS * 4 : FRAME_MS);
    });
    show(steps.length - 1);
  }

  // -- the page

  function redraw() {
    colorSwatches();
    figures.filter((figure) => figure.drawn || figure.element.clientWidth).forEach(draw);
  }

  function label() {
    const other = shade() === "dark" ? "light" : "dark";
    button.textContent = other === "dark" ? "Dark" : "Light";
    button.setAttribute("aria-label", `Switch to ${other} colors`);
  }

  function remember(value) {
    try {
      localStorage.setItem("esd-report-shade", value);
    } catch {
      // a page that is opened as a file may have no storage
    }
  }

  function remembered() {
    try {
      const value = localStorage.getItem("esd-report-shade");
      return value === "dark" || value === "light" ? value : null;
    } catch {
      return null;
    }
  }

  async function plotly() {
    const packed = document.getElementById("plotly").textContent;
    const stream = new Blob([bytesOf(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script); // allowed by its hash
    return window.Plotly;
  }

  function contents() {
    const nav = document.querySelector("nav");
    for (const section of document.querySelectorAll("main > section")) {
      const link = document.createElement("a");
      link.href = `#${section.id}`;
      link.textContent = section.querySelector("h2").textContent;
      nav.append(link);
    }
  }

  async function start() {
    const before = remembered();
    if (before) root.dataset.shade = before;
    contents();
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      root.dataset.shade = shade() === "dark" ? "light" : "dark";
      remember(root.dataset.shade);
      label();
      redraw();
    });
    try {
      Plotly = await plotly();
    } catch (error) {
      status.textContent = `The figures could not be drawn (${error}). The numbers behind each one can be opened below it.`;
      status.hidden = false;
      root.dataset.ready = "failed";
      return;
    }
    figures.forEach(keys);
    colorSwatches();
    figures.filter((figure) => figure.element.querySelector(".player")).forEach(player);
    for (const figure of figures) {
      for (const select of figure.element.querySelectorAll("select[data-choice]")) {
        select.addEventListener("change", () => {
          const chosen = [...figure.element.querySelectorAll("select[data-choice]")];
          const title = figure.element.querySelector("h3");
          if (chosen.length === 2) title.textContent = chosen.map((s) => s.selectedOptions[0].text).join(" by ");
          draw(figure);
        });
      }
    }
    document.addEventListener("toggle", (event) => {
      for (const figure of figures) {
        if (!figure.drawn && event.target.open && event.target.contains(figure.element)) draw(figure);
      }
    }, true);
    dark.addEventListener("change", () => {
      label();
      redraw();
    });
    let waiting = 0;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => !printing && redraw(), 120);
    });
    window.addEventListener("beforeprint", () => {
      printing = true;
      root.dataset.before = root.dataset.shade || "";
      root.dataset.shade = "light";
      redraw();
    });
    window.addEventListener("afterprint", () => {
      printing = false;
      if (root.dataset.before) root.dataset.shade = root.dataset.before;
      else delete root.dataset.shade;
      delete root.dataset.before;
      redraw();
    });
    // what can be seen first; the others one by one, so that the page can be scrolled meanwhile
    const isNear = (figure) => figure.element.getBoundingClientRect().top < window.innerHeight;
    figures.filter(isNear).forEach(draw);
    root.dataset.ready = "yes";
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const figure = figures.find((each) => each.element === entry.target);
        if (entry.isIntersecting && !figure.drawn) draw(figure);
      }
    }, { rootMargin: "300px" });
    figures.forEach((figure) => observer.observe(figure.element));
    for (const figure of figures) {
      await new Promise((resolve) => (window.requestIdleCallback || setTimeout)(resolve));
      if (!figure.drawn && !printing) draw(figure);
    }
    root.dataset.complete = "yes";
  }

  start();
})();
