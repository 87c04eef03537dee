/**
 * The drop-in tfjs backend: `import 'simmim/backend'` registers 'simmim-cpu' (the native addon is loaded
 * when the backend is first used). It knows nothing of SimMIM.
 */
import { registerBackend } from './register';

registerBackend();

export { NativeBackend } from './backend';
export { CPU_BACKEND, registerBackend, registerNativeKernel } from './register';
export type { KernelTable, NativeKernel } from './register';
