package org.pytorch.executorch;

/** What native code throws. */
public class ExecutorchRuntimeException extends RuntimeException {
  private final int errorCode;

  public ExecutorchRuntimeException(int errorCode, String details) {
    super("[Executorch Error 0x" + Integer.toHexString(errorCode) + "] " + details);
    this.errorCode = errorCode;
  }

  public int getErrorCode() {
    return errorCode;
  }
}
