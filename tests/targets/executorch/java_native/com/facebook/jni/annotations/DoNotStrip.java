package com.facebook.jni.annotations;

public @interface DoNotStrip {}
