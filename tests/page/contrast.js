// What has less contrast than WCAG 2.2 AA asks for (1.4.3, 1.4.11), each as "ratio: what".
() => {
  const parse = (colour) => {
    const [r, g, b, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return { rgb: [r, g, b], alpha };
  };
  const over = (above, below) => above.rgb.map((value, i) => value * above.alpha + below[i] * (1 - above.alpha));
  const ground = (element) => {
    const below = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    return over(parse(getComputedStyle(element).backgroundColor), below);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  let looked = 0;
  const check = (least, colour, below, what) => {
    looked += 1;
    const value = ratio(over(parse(colour), below), below);
    if (value < least) found.push(`${value.toFixed(2)}: ${what}`);
  };
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const what = `${element.tagName}#${element.id}.${element.className} ${element.textContent.trim().slice(0, 30)}`;
    if ([...element.childNodes].some(({ nodeType, data }) => nodeType === Node.TEXT_NODE && data.trim()))
      check(4.5, style.color, below, what);
    if (element.placeholder) check(4.5, getComputedStyle(element, "::placeholder").color, below, `placeholder of ${what}`);
    if (element.matches("textarea, input, button, .box") && style.borderTopStyle !== "none" && style.borderTopColor !== "rgba(0, 0, 0, 0)")
      check(3, style.borderTopColor, ground(element.parentElement), `border of ${what}`);
    if (element === document.activeElement && style.outlineStyle !== "none" && style.outlineColor !== "rgba(0, 0, 0, 0)")
      check(3, style.outlineColor, ground(element.parentElement), `outline of ${what}`);
  }
  return { looked, found };
}
