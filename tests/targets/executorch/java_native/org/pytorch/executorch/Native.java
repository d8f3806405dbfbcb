package org.pytorch.executorch;

import com.facebook.jni.HybridData;
import java.util.Map;
import java.util.WeakHashMap;

/** What the library's native functions do, on recordings: tools/kotlin_adapter.py has them call this. */
public class Native {
  private static final Map<HybridData, Recording> OPEN = new WeakHashMap<>();

  public static HybridData initHybrid(String path, int loadMode, int numThreads) {
    HybridData made = new HybridData();
    OPEN.put(made, Recording.opened(path, numThreads));
    return made;
  }

  public static String[] getMethodsNative(HybridData module) {
    return OPEN.get(module).names();
  }

  public static String[] getUsedBackends(HybridData module, String methodName) {
    return new String[] {"XnnpackBackend"};
  }

  public static int loadMethodNative(HybridData module, String methodName) {
    return OPEN.get(module).load(methodName);
  }

  public static EValue[] executeNative(HybridData module, String methodName, EValue[] inputs) {
    return OPEN.get(module).execute(methodName, inputs);
  }

  public static String[] readLogBufferStaticNative() {
    return new String[0];
  }
}
