package org.pytorch.executorch;

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.CRC32;

/**
 * Stands in for ExecuTorch's native code: its "program" is a recording of calls, which it answers in order.
 *
 * It is strict where the library is, and where a mistake would show on a phone only: shapes, types and
 * values of inputs must be those of the recording, and outputs are views of memory that every later call
 * overwrites (with NaN, so that a view that is kept cannot look right). See recording.py for the format.
 * It uses of the library's classes what is public only, so that the real ones can take their place.
 */
public class Recording {
  private static final int MAGIC = 0x4d554552;

  private final Map<String, Method> methods = new LinkedHashMap<>();
  private final DataInputStream calls;

  private static final class Port {
    long[] shape;
    String dtype;

    int bytes() {
      long count = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
      return (int) count * (dtype.equals("FLOAT") ? 4 : 8);
    }
  }

  private static final class Method {
    Port[] inputs;
    Port[] outputs;
    boolean planned;
    boolean loaded;
    ByteBuffer[] memory;
  }

  Recording(String path) throws IOException {
    calls = new DataInputStream(new BufferedInputStream(new FileInputStream(path)));
    if (calls.readInt() != MAGIC) {
      throw new ExecutorchRuntimeException(0x23, "Failed to load program");
    }
    for (int left = calls.readInt(); left > 0; left--) {
      Method method = new Method();
      methods.put(calls.readUTF(), method);
      method.planned = calls.readBoolean();
      method.inputs = readPorts();
      method.outputs = readPorts();
    }
  }

  /** Threads that the last program was opened with. */
  public static int threads;

  static Recording opened(String path, int numThreads) {
    threads = numThreads;
    try {
      return new Recording(path);
    } catch (IOException problem) {
      throw new ExecutorchRuntimeException(0x22, problem.toString());
    }
  }

  private Port[] readPorts() throws IOException {
    Port[] ports = new Port[calls.readInt()];
    for (int i = 0; i < ports.length; i++) {
      ports[i] = new Port();
      ports[i].dtype = calls.readInt() == 6 ? "FLOAT" : "INT64";
      ports[i].shape = new long[calls.readInt()];
      for (int j = 0; j < ports[i].shape.length; j++) {
        ports[i].shape[j] = calls.readLong();
      }
    }
    return ports;
  }

  String[] names() {
    return methods.keySet().toArray(new String[0]);
  }

  /** An error code, as native code returns it; 0 if all went well. */
  int load(String methodName) {
    Method method = methods.get(methodName);
    if (method == null) {
      return 0x12;
    }
    method.memory = new ByteBuffer[method.outputs.length];
    for (int i = 0; i < method.memory.length; i++) {
      method.memory[i] =
          ByteBuffer.allocateDirect(method.outputs[i].bytes()).order(ByteOrder.nativeOrder());
    }
    method.loaded = true;
    return 0;
  }

  EValue[] execute(String methodName, EValue[] inputs) {
    Method method = methods.get(methodName);
    if (method == null) {
      throw new ExecutorchRuntimeException(0x12, "no method " + methodName);
    }
    if (!method.planned) {
      throw new ExecutorchRuntimeException(0x12, "no memory for the outputs of " + methodName);
    }
    if (!method.loaded) {
      load(methodName);
    }
    if (inputs.length != method.inputs.length) {
      throw new ExecutorchRuntimeException(0x12, "Invalid number of inputs");
    }
    poison();
    try {
      return replay(methodName, method, inputs);
    } catch (EOFException problem) {
      throw new ExecutorchRuntimeException(0x14, "the recording has no further call");
    } catch (IOException problem) {
      throw new ExecutorchRuntimeException(0x22, problem.toString());
    }
  }

  private EValue[] replay(String name, Method method, EValue[] inputs) throws IOException {
    String recorded = calls.readUTF();
    if (!recorded.equals(name)) {
      throw new ExecutorchRuntimeException(0x14, name + " was called where " + recorded + " was recorded");
    }
    for (int i = 0; i < inputs.length; i++) {
      check(name, i, method.inputs[i], inputs[i].toTensor(), calls.readLong());
    }
    EValue[] outputs = new EValue[method.outputs.length];
    for (int i = 0; i < outputs.length; i++) {
      byte[] raw = new byte[method.outputs[i].bytes()];
      calls.readFully(raw);
      ByteBuffer memory = method.memory[i];
      memory.clear();
      memory.put(raw);
      memory.rewind();
      long[] shape = method.outputs[i].shape;
      boolean floats = method.outputs[i].dtype.equals("FLOAT");
      outputs[i] =
          EValue.from(
              floats
                  ? Tensor.fromBlob(memory.asFloatBuffer(), shape)
                  : Tensor.fromBlob(memory.asLongBuffer(), shape));
    }
    return outputs;
  }

  private static void check(String name, int i, Port port, Tensor given, long recorded) {
    if (!given.dtype().name().equals(port.dtype) || !Arrays.equals(given.shape(), port.shape)) {
      throw new ExecutorchRuntimeException(
          0x12, "input " + i + " of " + name + " is " + given.dtype() + Arrays.toString(given.shape()));
    }
    ByteBuffer raw = ByteBuffer.allocate(port.bytes()).order(ByteOrder.nativeOrder());
    if (port.dtype.equals("FLOAT")) {
      raw.asFloatBuffer().put(given.getDataAsFloatArray());
    } else {
      raw.asLongBuffer().put(given.getDataAsLongArray());
    }
    CRC32 sum = new CRC32();
    sum.update(raw.array());
    if (sum.getValue() != recorded) {
      throw new ExecutorchRuntimeException(0x14, "input " + i + " of " + name + " has other values");
    }
  }

  private void poison() {
    for (Method method : methods.values()) {
      for (ByteBuffer memory : method.memory == null ? new ByteBuffer[0] : method.memory) {
        for (int i = 0; i < memory.capacity(); i++) {
          memory.put(i, (byte) 0xff); // as floats, NaN
        }
      }
    }
  }
}
