import sharp from 'sharp';

/** An SVG as PNG, `scale` pixels for each of its own. Text needs a font on the machine. */
export function pngOfSvg(svg: string, scale = 2): Promise<Buffer> {
  return sharp(Buffer.from(svg), { density: 72 * scale }).png().toBuffer();
}

/** Whether the machine has a font at all: without one, text in a PNG is missing. */
export async function canDrawText(): Promise<boolean> {
  const probe = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20" fill="#fff"/><text x="2" y="16" font-size="16">M8</text></svg>');
  const { min } = (await sharp(probe).greyscale().stats()).channels[0] as { min: number };
  return min < 128;
}
