package org.pytorch.executorch;

import java.nio.Buffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.Arrays;

/** A shape over a direct buffer in native order; whoever holds a view sees what is written there later. */
public class Tensor {
  private final Buffer data;
  private final long[] shape;
  private final DType dtype;

  private Tensor(Buffer data, long[] shape, DType dtype) {
    this.data = data;
    this.shape = shape;
    this.dtype = dtype;
  }

  public static Tensor fromBlob(FloatBuffer data, long[] shape) {
    check(data, data.order(), shape);
    return new Tensor(data, shape.clone(), DType.FLOAT);
  }

  public static Tensor fromBlob(LongBuffer data, long[] shape) {
    check(data, data.order(), shape);
    return new Tensor(data, shape.clone(), DType.INT64);
  }

  private static void check(Buffer data, ByteOrder order, long[] shape) {
    long wanted = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
    if (!data.isDirect() || order != ByteOrder.nativeOrder()) {
      throw new IllegalArgumentException("Data buffer must be direct, in native byte order");
    }
    if (data.capacity() != wanted) {
      throw new IllegalArgumentException(
          "Inconsistent data capacity:" + data.capacity() + " and shape number elements:" + wanted);
    }
  }

  public long[] shape() {
    return shape.clone();
  }

  public DType dtype() {
    return dtype;
  }

  /** Not a copy, and its position is where it was left. */
  public Buffer getRawDataBuffer() {
    return data;
  }

  public float[] getDataAsFloatArray() {
    if (dtype != DType.FLOAT) {
      throw new IllegalStateException("getDataAsFloatArray of a tensor of " + dtype);
    }
    FloatBuffer view = ((FloatBuffer) data).duplicate();
    view.rewind();
    float[] values = new float[view.remaining()];
    view.get(values);
    return values;
  }

  public long[] getDataAsLongArray() {
    if (dtype != DType.INT64) {
      throw new IllegalStateException("getDataAsLongArray of a tensor of " + dtype);
    }
    LongBuffer view = ((LongBuffer) data).duplicate();
    view.rewind();
    long[] values = new long[view.remaining()];
    view.get(values);
    return values;
  }
}
