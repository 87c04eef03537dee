/** The few SVG elements that charts are made of. */

const FONT = "font-family=\"system-ui, 'DejaVu Sans', sans-serif\"";

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** Text as it may stand in SVG. Characters that XML forbids are left out. */
export function escapeText(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '').replace(/[&<>"]/g, (c) => ESCAPES[c] as string);
}

/** A coordinate with a tenth of a pixel. */
export const px = (value: number): string => String(Math.round(value * 10) / 10);

type Attributes = Readonly<Record<string, string | number>>;

/** One element; numbers are rounded to a tenth. */
export function element(name: string, attributes: Attributes, content = ''): string {
  const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${typeof value === 'number' ? px(value) : escapeText(value)}"`).join('');
  return content ? `<${name}${written}>${content}</${name}>` : `<${name}${written}/>`;
}

/** Text at a point; `anchor` start, middle or end. */
export function text(x: number, y: number, content: string, options: { size?: number; anchor?: string; colour?: string; weight?: string; turn?: number } = {}): string {
  const { size = 12, anchor = 'start', colour = '#222', weight, turn } = options;
  const extra = { ...(weight ? { 'font-weight': weight } : {}), ...(turn ? { transform: `rotate(${turn} ${px(x)} ${px(y)})` } : {}) };
  return element('text', { x, y, 'font-size': size, 'text-anchor': anchor, fill: colour, ...extra }, escapeText(content));
}

/** About how wide a text is; fonts differ, so this errs on the wide side. */
export function textWidth(content: string, size = 12): number {
  return content.length * size * 0.6;
}

/** Breaks text at spaces into lines of at most `width` pixels. */
export function wrap(content: string, width: number, size = 12): string[] {
  const lines: string[] = [];
  for (const word of content.split(' ')) {
    const last = lines[lines.length - 1];
    if (last !== undefined && textWidth(`${last} ${word}`, size) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** The whole file. */
export function svgDocument(width: number, height: number, content: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${px(width)}" height="${px(height)}" viewBox="0 0 ${px(width)} ${px(height)}" ${FONT}>\n<rect width="100%" height="100%" fill="#fff"/>\n${content}\n</svg>\n`;
}
