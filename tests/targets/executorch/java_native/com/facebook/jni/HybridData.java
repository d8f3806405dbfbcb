package com.facebook.jni;

/** Stands for an object of native code's: valid until it is reset. */
public class HybridData {
  private boolean valid = true;

  public boolean isValid() {
    return valid;
  }

  public void resetNative() {
    valid = false;
  }
}
