/**
 * What users of tfjs-node expect around the backend: `file://` models, image decoding and encoding, TensorBoard.
 * Importing this module registers the backend and the file:// handlers.
 */
import '../backend';
import { registerFileSystem } from './file_system';

registerFileSystem();

export { fileSystem, registerFileSystem } from './file_system';
export { decodeBmp, decodeGif, decodeImage, decodeJpeg, decodePng, encodeJpeg, encodePng } from './image';
export { SummaryFileWriter, summaryFileWriter } from './summary';
export type { FitCallback } from './installed';
export { type TensorBoardOptions, tensorBoard } from './tensor_board';
