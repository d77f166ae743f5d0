/* Charts, times in the reader's zone, copying, links to Airflow's own pages, and progress while a run is under way. */
"use strict";
(() => {
  const POLL_MS = 3000;
  const style = () => getComputedStyle(document.documentElement);
  const colour = (name) => style().getPropertyValue(name).trim();

  /* Moments: far ones as a date, near ones as "3 min ago"; the exact moment stays in the title. */
  const spans = [[60, "second", 1], [3600, "minute", 60], [86400, "hour", 3600], [86400 * 14, "day", 86400]];
  const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
  const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  const tell = (node) => {
    const at = new Date(node.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const seconds = (at.getTime() - Date.now()) / 1000;
    node.title = exact.format(at);
    if (node.closest(".clock")) {
      node.textContent = Math.abs(seconds) < 43200 ? clock.format(at) : date.format(at);
      return;
    }
    const span = spans.find(([most]) => Math.abs(seconds) < most);
    node.textContent = node.closest(".ago") && span ? ago.format(Math.round(seconds / span[2]), span[1]) : date.format(at);
  };
  const tellAll = () => document.querySelectorAll("time").forEach(tell);

  /* Links to Airflow's own pages. Its frame around us lets us move within it, but opens no window. */
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a.to-airflow");
    if (!link || window.parent === window || event.ctrlKey || event.metaKey || event.shiftKey) return;
    try {
      const address = new URL(link.href);
      window.parent.history.pushState({}, "", address.pathname + address.search);
      window.parent.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
      event.preventDefault();
    } catch { /* then the link opens here */ }
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const block = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = "Copied";
    } catch {
      window.getSelection().selectAllChildren(block);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });

  /* Charts: one thing on the y axis, the runs in their order on the x axis. */
  const charts = [];
  const shown = (value, unit) => {
    if (value === null || value === undefined) return "–";
    const places = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 4;
    const text = value.toLocaleString("en", { maximumFractionDigits: places });
    return unit ? `${text} ${unit}` : text;
  };
  const stacked = (series) => {
    const below = series[0].values.map(() => 0);
    return series.map((one) => one.values.map((value, at) => (below[at] += value)));
  };
  const draw = (holder) => {
    const chart = JSON.parse(holder.dataset.chart);
    const isStack = chart.kind === "stack";
    const xs = chart.ticks.map((_, at) => at);
    const rows = isStack ? stacked(chart.series) : chart.series.map((one) => one.values);
    const ink = colour("--soft");
    const axis = { stroke: ink, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px " + colour("--face") };
    const bars = window.uPlot.paths.bars({ size: [0.72, 44], radius: 0 });
    const options = {
      width: Math.max(220, holder.clientWidth), height: 190, legend: { show: true, live: true },
      padding: [10, 12, 0, 0], cursor: { points: { show: !isStack }, drag: { x: false, y: false }, y: false },
      scales: { x: { time: false, range: [-0.6, xs.length - 0.4] }, y: { range: (_, low, high) => [0, isStack ? 100 : (high || 1) * 1.12] } },
      axes: [
        { ...axis, grid: { show: false }, space: 90, size: 26, incrs: [1, 2, 5, 10, 20, 50, 100],
          values: (_, at) => at.map((one) => { const tick = chart.ticks[one] ?? ""; return tick.length > 18 ? tick.slice(0, 17) + "…" : tick; }) },
        { ...axis, size: 56, values: (_, at) => at.map((one) => shown(one, isStack ? "%" : "")) },
      ],
      series: [{ value: (_, at) => (at === null ? "–" : chart.ticks[at]), label: "Partition" }],
    };
    /* A stack is drawn from its top: each bar covers the lower part of the one behind it. */
    const order = isStack ? [...chart.series.keys()].reverse() : [...chart.series.keys()];
    const data = [xs];
    for (const at of order) {
      const one = chart.series[at];
      const fill = colour(`--c${one.colour}`);
      data.push(rows[at]);
      options.series.push({
        label: one.label, stroke: fill, fill: isStack ? fill : fill + "22", width: isStack ? 0 : 2,
        paths: isStack ? bars : undefined, points: isStack ? { show: false } : { show: true, size: 5, fill, stroke: fill },
        value: (_, __, ___, index) => shown(index === null ? null : one.values[index], chart.unit),
      });
    }
    holder.replaceChildren();
    charts.push([holder, new window.uPlot(options, data, holder)]);
  };
  const drawAll = () => {
    charts.splice(0).forEach(([, plot]) => plot.destroy());
    document.querySelectorAll("[data-chart]").forEach(draw);
  };
  const resized = new ResizeObserver(() => {
    for (const [holder, plot] of charts) plot.setSize({ width: Math.max(220, holder.clientWidth), height: 190 });
  });

  /* Progress: the server draws it anew; when the run has ended the whole page is loaded again. */
  const poll = async (card) => {
    if (!card.querySelector("[data-live]")) return;
    const before = card.querySelector(".live").dataset.phase;
    try {
      const answer = await fetch(card.dataset.poll, { headers: { Accept: "text/html" } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".live");
        if (!("live" in fresh.dataset) || fresh.dataset.phase !== before) {
          window.location.reload();
          return;
        }
        card.querySelector(".live").replaceWith(fresh);
        tellAll();
      }
    } catch { /* the server may be away for a moment */ }
    setTimeout(poll, POLL_MS, card);
  };

  document.addEventListener("windrow-theme", drawAll);
  document.addEventListener("DOMContentLoaded", () => {
    tellAll();
    setInterval(tellAll, 15000);
    drawAll();
    document.querySelectorAll("[data-chart]").forEach((holder) => resized.observe(holder));
    document.querySelectorAll("[data-poll]").forEach((card) => setTimeout(poll, POLL_MS, card));
    let wanted = window.location.hash;
    try {
      wanted = wanted || window.parent.location.hash;
    } catch { /* not Airflow's frame */ }
    if (/^#[a-z-]+$/.test(wanted)) document.querySelector(wanted)?.scrollIntoView();
  });
})();
