"""Published vocabularies that Stentor is tested with, by name."""

KNOWN_SHA256 = {
    "english-32000-balanced-v1": "daa60cbcefb701e9da4ce4121a34b468fdc9ae5fd149b8bb5a5e651ae0251809",
    "english-32000-strict-nocapcode-v1": "7c773a8df0b2562594ff8de8fadbb49920999e1ded88ef4fa687dc6ee77878c4",
    "english-4096-balanced-v1": "8e90aad427f7f1de1fc3c694f1eb7eb29d81155318c0b01bdcc7af55b6bffd98",
    "english-4096-strict-nocapcode-v1": "8b4270afaa2280d960efd52b0cbcb3986b7757f09cfbc6bc616ef35fc21597b6",
    "english-8000-balanced-nocapcode-v1": "82afbd0b1e48bbc4ba906b7cd50821bac6ea73ae01ef68091b309f305cc06d6b",
    "english-8000-balanced-v1": "4e09ce62775ee0a6d30f32058d46b191d131c78911864d3d503435b35e49e7b7",
    "english-8000-clean-nocapcode-v1": "01227a09268a6f562cafecbf4053e8c916e8ef31e1667890ea68039dbd9e4b1b",
    "english-8000-clean-v1": "658f6cead55cdd9b341f670bb7adbd8ecd47c5490dad149010596951c24758c3",
    "english-8000-consistent-nocapcode-v1": "b1b9146a55e3dd1b9bd0e70824cdc5a5e61ed1b33aa7cac25c96fcd8e5c60a4d",
    "english-8000-consistent-v1": "1e80fe1bd342c89b16d04f842849ed76737ed3390ed5b5beed6846532c580221",
    "english-8000-strict-nocapcode-v1": "cd0f9d205c5f090374c8f556ec04958f4225868b80a20b2060e4d4dc5bbf4744",
    "english-8000-strict-v1": "704a31304ddf6925c3ba736d0eaeba6c1611fd9d3db7371b2ee3429267f519dc",
    "english-8000-unfiltered-nocapcode-v1": "2c1c9c35f2082eb8e18505fb4485c5cef0f61bb0fb3b05731f5345bdd341d5ec",
    "english-8000-unfiltered-v1": "71016b4c7d09b19611053433d8e8f3803b1cc55f915bf9055f36275cde319ba0",
}
"""Their files keep every rule; others are read as they come, and are checked each time."""
