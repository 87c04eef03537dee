/**
 * The drop-in tfjs backend: `import 'simmim/backend'` registers 'simmim-cpu' and 'simmim-cuda' (native code is loaded
 * when the backend is first used). It knows nothing of SimMIM.
 */
import { registerBackends } from './register';

registerBackends();

export { NativeBackend } from './backend';
export { runsInJavaScript } from './host';
export { CPU_BACKEND, CUDA_BACKEND, registerBackend, registerNativeKernel } from './register';
export type { KernelTable, NativeKernel } from './register';
