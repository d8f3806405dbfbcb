package com.facebook.soloader.nativeloader;

/** There is no native library to load. */
public class NativeLoader {
  public static boolean isInitialized() {
    return true;
  }

  public static void init(SystemDelegate delegate) {}

  public static boolean loadLibrary(String name) {
    return true;
  }
}
