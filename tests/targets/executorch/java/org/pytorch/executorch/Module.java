package org.pytorch.executorch;

import java.io.File;

/** Module.kt of ExecuTorch 1.4.1, as far as the adapter uses it: what it returns, and what it throws. */
public class Module {
  public static final int LOAD_MODE_FILE = 0;
  public static final int LOAD_MODE_MMAP = 1;

  private final Recording recording;
  private boolean destroyed;

  private Module(Recording recording) {
    this.recording = recording;
  }

  public static Module load(String modelPath, int loadMode, int numThreads) {
    if (!new File(modelPath).exists()) {
      throw new IllegalArgumentException("Cannot load model path: path does not exist: " + modelPath);
    }
    return new Module(Recording.opened(modelPath, numThreads));
  }

  public static Module load(String modelPath, int loadMode) {
    return load(modelPath, loadMode, 0);
  }

  public static Module load(String modelPath) {
    return load(modelPath, LOAD_MODE_FILE);
  }

  public String[] getMethods() {
    check();
    return recording.names();
  }

  public void loadMethod(String methodName) {
    check();
    int code = recording.load(methodName);
    if (code != 0) {
      throw new ExecutorchRuntimeException(code, "Failed to load method: " + methodName);
    }
  }

  public EValue[] execute(String methodName, EValue... inputs) {
    check();
    return recording.execute(methodName, inputs);
  }

  public void destroy() {
    destroyed = true;
  }

  private void check() {
    if (destroyed) {
      throw new IllegalStateException("Module has been destroyed");
    }
  }
}
