// Sliders: two images in one place, the left one cut off at the divider.

function startSlider(slider) {
  const stage = slider.querySelector('.stage');
  const range = slider.querySelector('input');
  const images = slider.querySelectorAll('img');
  const [left, right] = slider.querySelectorAll('select');

  const move = percent => {
    slider.style.setProperty('--x', percent + '%');
    range.setAttribute('aria-valuetext', `${Math.round(percent)} % ${left.selectedOptions[0].text}`);
  };
  const show = () => {
    images.forEach((image, index) => {
      image.classList.toggle('left', index === +left.value);
      image.classList.toggle('right', index === +right.value);
    });
    move(+range.value);
  };
  const drag = event => {
    const box = stage.getBoundingClientRect();
    range.value = Math.min(100, Math.max(0, 100 * (event.clientX - box.left) / box.width));
    move(+range.value);
  };
  stage.onpointerdown = event => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    drag(event);
  };
  stage.onpointermove = event => { if (stage.hasPointerCapture(event.pointerId)) drag(event); };
  stage.onmousedown = event => { event.preventDefault(); range.focus({ preventScroll: true }); };
  range.oninput = () => move(+range.value);
  left.onchange = right.onchange = show;
  show();
}

// Charts: for each series a smooth line over the faint raw one.

/** 31415 -> "31.42k" */
function format(value) {
  const size = Math.abs(value);
  if (size >= 1e9 || (size > 0 && size < 1e-4)) return value.toExponential(2);
  if (size >= 1e6) return +(value / 1e6).toPrecision(4) + 'M';
  if (size >= 1e4) return +(value / 1e3).toPrecision(4) + 'k';
  return String(+value.toPrecision(4));
}

/** Gaussian mean over 2 % of the points on either side; fewer than 50 points stay as they are. */
function smooth(values) {
  const reach = Math.floor(values.length / 50);
  if (!reach) return values;
  return values.map((_, center) => {
    let sum = 0, total = 0;
    for (let i = Math.max(0, center - reach); i <= Math.min(values.length - 1, center + reach); i++) {
      const weight = Math.exp(-2 * ((i - center) / reach) ** 2);
      sum += weight * values[i];
      total += weight;
    }
    return sum / total;
  });
}

/** Multiples of 1, 2 or 5 times a power of ten, about `count` of them between low and high. */
function linearTicks(low, high, count) {
  const power = 10 ** Math.floor(Math.log10((high - low) / count));
  const step = power * [1, 2, 5, 10].find(factor => (high - low) / (factor * power) <= count);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(i * step);
  return ticks;
}

/** Round numbers on an axis of log10 values. */
function logTicks(low, high, count) {
  for (const digits of [[1, 2, 5], [1]]) {
    const ticks = [];
    for (let e = Math.floor(low); e <= high; e++) {
      ticks.push(...digits.map(digit => e + Math.log10(digit)).filter(t => t >= low && t <= high));
    }
    if (ticks.length > count) {
      if (digits.length === 1) return ticks.filter((_, i) => i % Math.ceil(ticks.length / count) === 0);
    } else if (ticks.length >= 3) return ticks;
  }
  return linearTicks(10 ** low, 10 ** high, count).filter(value => value > 0).map(Math.log10);
}

/** Smallest and largest of many values, widened by a share of their distance; never empty. */
function extent(values, share) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const distance = high - low;
  if (!(distance > 1e-9 * Math.max(Math.abs(low), Math.abs(high)))) return [low - 0.5, high + 0.5];
  return [low - share * distance, high + share * distance];
}

/** Without its smallest and largest percent: a few wild first values must not flatten the rest. */
function typical(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const cut = Math.floor(sorted.length / 100);
  return sorted.slice(cut, sorted.length - cut);
}

/** Draws into an SVG element: add(name, attributes, text) -> the new element. */
function painter(svg) {
  return (name, attributes, text = '') => {
    const element = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return svg.appendChild(element);
  };
}

/** Grid, ticks and labels of a plot; returns its edges and the functions from values to pixels. */
function drawAxes(plot, svg, data, [xLow, xHigh], [yLow, yHigh]) {
  const add = painter(svg);
  const { clientWidth: width, clientHeight: height } = plot;
  svg.replaceChildren();
  const yTicks = (data.log_y ? logTicks : linearTicks)(yLow, yHigh, 6);
  const yLabels = yTicks.map(tick => format(data.log_y ? 10 ** tick : tick));
  const [left, right] = [10 + 7 * Math.max(...yLabels.map(label => label.length)), width - 8];
  const [top, bottom] = [26, height - 38];
  const px = x => left + (x - xLow) / (xHigh - xLow) * (right - left);
  const py = y => bottom - (y - yLow) / (yHigh - yLow) * (bottom - top);
  add('text', { x: 0, y: 12 }, data.y_label + (data.log_y ? ' (log scale)' : ''));
  add('text', { x: right, y: height - 4, 'text-anchor': 'end' }, data.x_label);
  yTicks.forEach((tick, i) => {
    add('path', { class: 'grid', d: `M${left} ${py(tick).toFixed(1)}H${right}` });
    add('text', { x: left - 7, y: py(tick) + 4, 'text-anchor': 'end' }, yLabels[i]);
  });
  for (const tick of linearTicks(xLow, xHigh, Math.max(2, Math.floor(width / 60)))) {
    const anchor = px(tick) > right - 14 ? 'end' : 'middle';
    add('text', { x: px(tick), y: bottom + 18, 'text-anchor': anchor }, format(tick));
  }
  return { width, left, right, top, bottom, px, py };
}

function startChart(figure) {
  const data = JSON.parse(figure.querySelector('script').textContent);
  const [plot, svg, tip] = ['.plot', 'svg', '.tip'].map(name => figure.querySelector(name));
  const toAxis = data.log_y ? Math.log10 : value => value;
  const fromAxis = data.log_y ? value => 10 ** value : value => value;
  const lines = data.series.map((series, index) => {
    const raw = series.y.map(toAxis);
    return { name: series.name, css: `c${index % 6}`, x: series.x, raw, smooth: smooth(raw) };
  });
  figure.querySelectorAll('li span').forEach((label, index) => {
    const values = lines[index].smooth;
    label.textContent = values.length ? format(fromAxis(values.at(-1))) : 'no data';
  });
  const drawn = lines.filter(line => line.x.length);
  if (!drawn.length) {
    plot.remove();
    return;
  }
  const [xLow, xHigh] = extent(drawn.flatMap(line => line.x), 0);
  const [yLow, yHigh] = extent(drawn.flatMap(line => [...line.smooth, ...typical(line.raw)]), 0.04);
  let width, left, right, top, bottom, px, py;
  const add = painter(svg);
  const path = (line, values) =>
    'M' + line.x.map((x, i) => `${px(x).toFixed(1)} ${Math.max(top, Math.min(bottom, py(values[i]))).toFixed(1)}`).join('L');

  const draw = () => {
    ({ width, left, right, top, bottom, px, py } = drawAxes(plot, svg, data, [xLow, xHigh], [yLow, yHigh]));
    hide();
    for (const line of drawn) {
      if (line.smooth !== line.raw) add('path', { class: `raw ${line.css}`, d: path(line, line.raw) });
      add('path', { class: line.css, d: path(line, line.smooth) });
      if (line.x.length > 30) continue;
      line.x.forEach((x, i) => add('circle', { class: line.css, r: 3, cx: px(x), cy: py(line.raw[i]) }));
    }
  };

  let cursor = [];
  const hide = () => {
    cursor.forEach(element => element.remove());
    cursor = [];
    tip.hidden = true;
  };
  const hover = event => {
    hide();
    const box = plot.getBoundingClientRect();
    const at = Math.min(right, Math.max(left, event.clientX - box.left));
    const x = xLow + (at - left) / (right - left) * (xHigh - xLow);
    const nearest = drawn.map(line => line.x.reduce((best, v, i) => Math.abs(v - x) < Math.abs(line.x[best] - x) ? i : best, 0));
    const closest = drawn.map((line, i) => line.x[nearest[i]]).reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a);
    cursor = [add('path', { class: 'cursor', d: `M${px(closest)} ${top}V${bottom}` })];
    tip.replaceChildren(`${data.x_label} ${closest.toLocaleString("en")}`);
    drawn.forEach((line, i) => {
      const value = line.smooth[nearest[i]];
      cursor.push(add('circle', { class: line.css, r: 4, cx: px(line.x[nearest[i]]), cy: py(value) }));
      const row = document.createElement('div');
      row.className = line.css;
      row.textContent = `${line.name} ${format(fromAxis(value))}`;
      tip.append(row);
    });
    tip.hidden = false;
    const beyond = px(closest) + 12 + tip.offsetWidth > width;
    tip.style.left = (beyond ? Math.max(0, px(closest) - 12 - tip.offsetWidth) : px(closest) + 12) + 'px';
  };
  plot.onpointermove = plot.onpointerdown = hover;
  plot.onpointerleave = hide;
  draw();
  new ResizeObserver(draw).observe(plot);
}

// Planes: a point for each method, with crosses for intervals. Labels that find no room are left to the list below.

function startPlane(figure) {
  const data = JSON.parse(figure.querySelector('script').textContent);
  const [plot, svg] = ['.plot', 'svg'].map(name => figure.querySelector(name));
  const across = (axis, range) => extent(data.points.flatMap(point => [point[axis], ...(point[range] || [])]), 0.1);
  const [xs, ys] = [across('x', 'x_interval'), across('y', 'y_interval')];
  const overlaps = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

  const draw = () => {
    const { left, right, top, bottom, px, py } = drawAxes(plot, svg, data, xs, ys);
    const add = painter(svg);
    if (data.front.length) add('path', { class: 'front', d: 'M' + data.front.map(([x, y]) => `${px(x)} ${py(y)}`).join('L') });
    data.points.forEach(({ x, y, x_interval, y_interval, hollow }, i) => {
      const css = `c${i % 6}`;
      if (x_interval) add('path', { class: css, d: `M${px(x_interval[0])} ${py(y)}H${px(x_interval[1])}` });
      if (y_interval) add('path', { class: css, d: `M${px(x)} ${py(y_interval[0])}V${py(y_interval[1])}` });
      add('circle', { class: css + (hollow ? ' hollow' : ''), r: 4.5, cx: px(x), cy: py(y) });
    });
    const taken = data.points.map(({ x, y }) => ({ x: px(x) - 6, y: py(y) - 6, width: 12, height: 12 }));
    data.points.forEach(({ label, x, y }, i) => {
      const text = add('text', { class: `label c${i % 6}` }, label);
      const { width, height } = text.getBBox();
      const places = [[9, -4], [-9 - width, -4], [9, height], [-9 - width, height], [-width / 2, -10], [-width / 2, height + 6]];
      const fits = places.map(([dx, dy]) => ({ x: px(x) + dx, y: py(y) + dy - height + 4, width, height })).find(box =>
        box.x >= left && box.x + width <= right && box.y >= top && box.y + height <= bottom &&
        !taken.some((other, k) => k !== i && overlaps(box, other)));
      if (!fits) return text.remove();
      taken.push(fits);
      text.setAttribute('x', fits.x);
      text.setAttribute('y', fits.y + height - 4);
    });
  };
  draw();
  new ResizeObserver(draw).observe(plot);
}

document.querySelectorAll('.slider').forEach(startSlider);
document.querySelectorAll('.chart').forEach(startChart);
document.querySelectorAll('.plane').forEach(startPlane);
