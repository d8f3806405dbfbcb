package org.pytorch.executorch;

/** A value that goes into a method or comes out of it; here always a tensor. */
public class EValue {
  private final Tensor tensor;

  private EValue(Tensor tensor) {
    this.tensor = tensor;
  }

  public static EValue from(Tensor tensor) {
    return new EValue(tensor);
  }

  public boolean isTensor() {
    return true;
  }

  public Tensor toTensor() {
    return tensor;
  }
}
