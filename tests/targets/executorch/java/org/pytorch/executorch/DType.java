package org.pytorch.executorch;

/** The types that segments have; the library knows more. */
public enum DType {
  INT64(4),
  FLOAT(6);

  final int jniCode;

  DType(int jniCode) {
    this.jniCode = jniCode;
  }
}
