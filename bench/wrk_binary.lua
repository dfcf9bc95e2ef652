-- One row of 784 floats over the binary tensor extension.
local json = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,784],"parameters":' ..
  '{"binary_data_size":3136}}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}'
wrk.method = "POST"
wrk.body = json .. string.rep(string.char(0, 0, 0x80, 0x3e), 784)
wrk.headers["Inference-Header-Content-Length"] = tostring(#json)
