import type { Command } from 'commander';
import sharp, { type SharpOptions } from 'sharp';
import { SimmimError } from '../errors';
import { encodeNpy } from '../formats/npy';
import { distortionOf, kMeans, type Clusters } from '../simmim/kmeans';
import { MAX_SAMPLE_BYTES, samplePoints } from '../train/cluster';
import { short } from '../train/metrics';
import { collect, dataRecipe, wholeNumber, type DataOptions } from './arguments';
import { useBackend } from './backend';
import { writeWhole } from '../formats/whole_file';
import { counter } from './progress';

/** Options of `simmim cluster`, as given. */
export interface ClusterOptions extends DataOptions {
  out: string;
  clusters: number;
  patch?: number;
  samples?: number;
  views: number;
  iterations: number;
  seed: number;
  backend: string;
}

const COLOUR_SAMPLES = 2 ** 20;
/** Patches looked at for each one of the codebook. */
const PATCHES_PER_CLUSTER = 128;

/** Adds `simmim cluster` to the command line. */
export function registerCluster(cli: Command, print: (line: string) => void): Command {
  return cli.command('cluster')
    .description("k-means of a data set's colours (for target.kind clusters) or, with --patch, of its patches (a codebook for target.kind tokens)")
    .requiredOption('--out <file>', 'the .npy to write; a picture of the clusters goes beside it')
    .option('--data <folder>', 'folder of pictures')
    .option('--recipe <name>', 'take data, image size and crops of a recipe')
    .option('--set <key=value>', 'override one value of the recipe, such as model.imageSize=224; may be repeated', collect, [])
    .option('--image-size <px>', 'size of the crops (default: the recipe\'s, or 192)', wholeNumber)
    .option('--clusters <n>', 'colours or patches to find', wholeNumber, 512)
    .option('--patch <px>', 'side of the patches; without it single pixels are clustered', wholeNumber)
    .option('--samples <n>', `pixels (default: ${COLOUR_SAMPLES}) or patches (default: ${PATCHES_PER_CLUSTER} for each cluster) to look at`, wholeNumber)
    .option('--views <n>', 'random crops of pictures to take them from', wholeNumber, 2048)
    .option('--iterations <n>', 'most rounds of k-means', wholeNumber, 50)
    .option('--seed <n>', 'seed of crops, sample and first centres', wholeNumber, 1)
    .option('--backend <name>', 'tfjs backend', 'simmim-cpu')
    .action((options: ClusterOptions) => cluster(options, print));
}

/** `simmim cluster`: samples, clusters, writes, reports. */
export async function cluster(options: ClusterOptions, print: (line: string) => void): Promise<void> {
  const { clusters, patch = 1, seed, views, iterations, out } = options;
  if (!out.endsWith('.npy')) throw new SimmimError('invalid_argument', 'cluster', `--out is '${out}', expected a name that ends in .npy`);
  if (clusters < 2) throw new SimmimError('invalid_argument', 'cluster', '--clusters is 1, expected at least 2');
  const recipe = dataRecipe('cluster', options);
  await useBackend(options.backend);
  const most = Math.floor(MAX_SAMPLE_BYTES / (12 * patch * patch)) - views;
  const samples = options.samples ?? (patch === 1 ? COLOUR_SAMPLES : Math.min(most, PATCHES_PER_CLUSTER * clusters));
  const read = counter('read', views, process.stderr);
  const sample = await samplePoints(recipe, { patch, samples, views, seed }, read.at);
  read.end();
  print(sample.description);
  const round = counter('round', iterations, process.stderr);
  const found = kMeans(sample.points, sample.dimension, { clusters, seed, iterations, onRound: round.at });
  round.end();
  report(found, sample.points, sample.dimension, print);
  await write(out, found.centres, patch, clusters);
  print(`wrote ${out} [${patch === 1 ? `${clusters}, 3` : `${clusters}, 3, ${patch}, ${patch}`}] and ${pictureName(out)}`);
}

function report(found: Clusters, points: Float32Array, dimension: number, print: (line: string) => void): void {
  const perValue = found.distortion / dimension;
  const mean = Float32Array.from({ length: dimension }, (_, j) => {
    let sum = 0;
    for (let i = j; i < points.length; i += dimension) sum += points[i] as number;
    return sum / (points.length / dimension);
  });
  const single = distortionOf(points, dimension, mean) / dimension;
  print(`distortion ${short(perValue)} mean squared error per value in 0..1 (${(-10 * Math.log10(perValue)).toFixed(1)} dB PSNR); one cluster alone has ${short(single)} (${(-10 * Math.log10(single)).toFixed(1)} dB)`);
  const counts = Array.from(found.counts).sort((a, b) => a - b);
  print(`${found.rounds} rounds; clusters have ${counts[0]} to ${counts[counts.length - 1]} points, the median ${counts[counts.length >> 1]}; ${found.revived} were started anew`);
}

const pictureName = (out: string): string => out.replace(/\.npy$/, '.png');

/** The .npy and a picture of all clusters in their order, 16 px or more each. */
async function write(out: string, centres: Float32Array, patch: number, clusters: number): Promise<void> {
  const values = centres.map((v) => Math.min(1, Math.max(0, v)));
  const shape = patch === 1 ? [clusters, 3] : [clusters, 3, patch, patch];
  writeWhole(out, 'cluster', encodeNpy({ dtype: 'F32', shape, data: new Uint8Array(values.buffer) }));
  writeWhole(pictureName(out), 'cluster', await sharp(...mosaic(values, patch, clusters)).png().toBuffer());
}

/** All clusters side by side, row by row, as an image for sharp. */
function mosaic(values: Float32Array, patch: number, clusters: number): [Buffer, SharpOptions] {
  const scale = Math.max(1, Math.ceil(16 / patch));
  const side = patch * scale;
  const columns = Math.ceil(Math.sqrt(clusters));
  const [height, width] = [Math.ceil(clusters / columns) * side, columns * side];
  const pixels = Buffer.alloc(height * width * 3, 255);
  for (let k = 0; k < clusters; k++) {
    const [top, left] = [Math.floor(k / columns) * side, (k % columns) * side];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const inside = Math.floor(y / scale) * patch + Math.floor(x / scale);
        for (let c = 0; c < 3; c++) pixels[((top + y) * width + left + x) * 3 + c] = Math.round((values[(k * 3 + c) * patch * patch + inside] as number) * 255);
      }
    }
  }
  return [pixels, { raw: { width, height, channels: 3 } }];
}
